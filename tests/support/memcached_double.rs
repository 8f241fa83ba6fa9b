//! A server that speaks as much of memcached's protocol as a load needs, in threads of its test.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// They come back as they were.
    Kept,
    /// They come back with their last byte changed.
    Garbled,
}

/// The server; its threads end with the test.
pub struct Double {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

/// What the server was told.
#[derive(Debug, Default)]
pub struct Told {
    /// The values by key.
    pub items: HashMap<String, Vec<u8>>,
    /// The fields of every `set` behind the key: flags, expiry, length.
    pub sets: Vec<[u64; 3]>,
    /// How many keys each `get` asked for.
    pub gets: Vec<usize>,
}

impl Double {
    /// Starts one on a free port.
    pub fn start(values: Values) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let shared = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, told) = (stream.unwrap(), Arc::clone(&shared));
                // A load that ends closes its connections where it stands.
                std::thread::spawn(move || serve(&stream, &told, values).ok());
            }
        });
        Self { address, told }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("memcached://{}", self.address)
    }

    /// What it was told so far.
    pub fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }
}

fn serve(stream: &TcpStream, told: &Mutex<Told>, values: Values) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut replies = io::BufWriter::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let mut told = told.lock().unwrap();
        match words[..] {
            ["get", ref keys @ ..] => {
                told.gets.push(keys.len());
                for key in keys {
                    if let Some(value) = told.items.get(*key) {
                        write!(replies, "VALUE {key} 0 {}\r\n", value.len())?;
                        let mut value = value.clone();
                        if values == Values::Garbled {
                            *value.last_mut().unwrap() ^= 1;
                        }
                        replies.write_all(&value)?;
                        replies.write_all(b"\r\n")?;
                    }
                }
                replies.write_all(b"END\r\n")?;
            }
            ["set", key, flags, expiry, length] => {
                let fields = [flags, expiry, length].map(|field| field.parse().unwrap());
                let mut value = vec![0; fields[2] as usize + 2];
                reader.read_exact(&mut value)?;
                value.truncate(fields[2] as usize);
                told.items.insert(key.to_owned(), value);
                told.sets.push(fields);
                replies.write_all(b"STORED\r\n")?;
            }
            ["stats"] => replies.write_all(b"STAT version 0\r\nEND\r\n")?,
            _ => replies.write_all(b"ERROR\r\n")?,
        }
        drop(told);
        line.clear();
        if reader.buffer().is_empty() {
            replies.flush()?;
        }
    }
    Ok(())
}
