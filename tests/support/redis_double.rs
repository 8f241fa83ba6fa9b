//! A server that speaks as much of Redis's protocol as a load needs, in threads of its test.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Starts one on a free port; its threads end with the test.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let items = Arc::new(Mutex::new(HashMap::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, items) = (stream.unwrap(), Arc::clone(&items));
            // A load that ends closes its connections where it stands.
            std::thread::spawn(move || serve(&stream, &items).ok());
        }
    });
    address
}

fn serve(stream: &TcpStream, items: &Mutex<HashMap<Vec<u8>, Vec<u8>>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut replies = io::BufWriter::new(stream);
    loop {
        let words = words(&mut reader)?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut items = items.lock().unwrap();
        match words[..] {
            [b"GET", key] => push_bulk(&mut replies, items.get(key))?,
            [b"MGET", ref keys @ ..] => {
                write!(replies, "*{}\r\n", keys.len())?;
                for &key in keys {
                    push_bulk(&mut replies, items.get(key))?;
                }
            }
            [b"SET", key, value] | [b"SET", key, value, b"PX", _] => {
                items.insert(key.to_vec(), value.to_vec());
                replies.write_all(b"+OK\r\n")?;
            }
            [b"INFO"] => push_bulk(&mut replies, Some(&b"redis_version:0\r\n".to_vec()))?,
            _ => replies.write_all(b"-ERR unknown\r\n")?,
        }
        drop(items);
        if reader.buffer().is_empty() {
            replies.flush()?;
        }
    }
}

/// The words of a request.
fn words(reader: &mut impl BufRead) -> io::Result<Vec<Vec<u8>>> {
    let count = head(reader, '*')?;
    let word = |_| {
        let mut word = vec![0; head(reader, '$')? + 2];
        reader.read_exact(&mut word)?;
        word.truncate(word.len() - 2);
        Ok(word)
    };
    (0..count).map(word).collect()
}

fn head(reader: &mut impl BufRead, kind: char) -> io::Result<usize> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let digits = line.strip_prefix(kind).expect("another kind of element");
    Ok(digits.trim_end().parse().expect("no number"))
}

fn push_bulk(replies: &mut impl Write, value: Option<&Vec<u8>>) -> io::Result<()> {
    let Some(value) = value else {
        return replies.write_all(b"$-1\r\n");
    };
    write!(replies, "${}\r\n", value.len())?;
    replies.write_all(value)?;
    replies.write_all(b"\r\n")
}
