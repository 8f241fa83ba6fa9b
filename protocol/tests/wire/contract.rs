//! PROTOCOL.md is the contract: what it shows is what the crate does.

use crate::lines::{Told, encode_response, hello_line, request_line, response_line, tell};
use larder_protocol::{
    Class, Decoded, Limits, Opcode, Status, decode_hello, decode_request, decode_response,
};

const CONTRACT: &str = include_str!("../../PROTOCOL.md");

/// One fenced block of the document.
#[derive(Debug)]
struct Example {
    of_a_request: bool,
    line: String,
    bytes: Vec<u8>,
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = CONTRACT.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```hex ") else {
            continue;
        };
        let title = lines
            .next()
            .expect("a block begins with a line that names its frame");
        let bytes = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .flat_map(|line| {
                line.split(';')
                    .next()
                    .unwrap_or_default()
                    .split_whitespace()
            })
            .map(|byte| u8::from_str_radix(byte, 16).expect("bytes are two hexadecimal digits"))
            .collect();
        let of_a_request = match kind {
            "request" => true,
            "response" => false,
            _ => panic!("a block shows a request or a response, not a {kind}"),
        };
        examples.push(Example {
            of_a_request,
            line: title.to_owned(),
            bytes,
        });
    }
    assert!(
        examples.len() > 40,
        "only {} examples were found",
        examples.len()
    );
    examples
}

/// Decodes what stands at the front of `bytes` as the receiver of this example would.
fn decode(example: &Example, bytes: &[u8]) -> Told {
    let limits = Limits::default();
    match (example.of_a_request, example.line.starts_with("HELLO")) {
        (true, true) => tell(decode_hello(bytes), hello_line),
        (true, false) => tell(decode_request(bytes, &limits), request_line),
        (false, _) => tell(
            decode_response(bytes, limits.frame_bytes_max),
            response_line,
        ),
    }
}

#[test]
fn every_example_decodes_to_the_line_above_it() {
    for example in examples() {
        let whole = Told::Frame {
            line: example.line.clone(),
            consumed: example.bytes.len(),
        };
        assert_eq!(decode(&example, &example.bytes), whole);
    }
}

#[test]
fn every_example_is_what_encoding_makes_of_it() {
    for example in examples() {
        let mut bytes = Vec::new();
        match (example.of_a_request, example.line.starts_with("HELLO")) {
            (true, true) => match decode_hello(&example.bytes) {
                Decoded::Frame { frame, .. } => frame.hello.encode(frame.id, &mut bytes),
                other => panic!("{other:?}"),
            },
            (true, false) => match decode_request(&example.bytes, &Limits::default()) {
                Decoded::Frame { frame, .. } => frame.encode(&mut bytes),
                other => panic!("{other:?}"),
            },
            (false, _) => match decode_response(&example.bytes, u32::MAX) {
                Decoded::Frame { frame, .. } => encode_response(&frame, &mut bytes),
                other => panic!("{other:?}"),
            },
        }
        assert_eq!(bytes, example.bytes, "{}", example.line);
    }
}

#[test]
fn every_prefix_of_an_example_asks_for_more_and_says_how_much() {
    for example in examples() {
        for end in 0..example.bytes.len() {
            let needed_bytes = if end < 16 { 16 } else { example.bytes.len() };
            let told = decode(&example, &example.bytes[..end]);
            assert_eq!(
                told,
                Told::Incomplete { needed_bytes },
                "{} cut at {end}",
                example.line
            );
        }
    }
}

#[test]
fn what_follows_an_example_changes_nothing() {
    for example in examples() {
        let mut bytes = example.bytes.clone();
        bytes.extend_from_slice(&[0xff; 40]);
        assert_eq!(decode(&example, &bytes), decode(&example, &example.bytes));
    }
}

#[test]
fn every_opcode_has_an_example() {
    let examples = examples();
    for opcode in Opcode::ALL {
        let of_a_request = !opcode.is_notice();
        let shown = examples.iter().any(|example| {
            example.of_a_request == of_a_request
                && example.line.starts_with(&format!("{opcode} id "))
                && example.bytes[0] == opcode as u8
        });
        assert!(shown, "PROTOCOL.md shows no {opcode}");
    }
}

#[test]
fn every_status_stands_in_the_table_with_its_number_and_class() {
    for status in Status::ALL {
        let name = status.name().expect("listed statuses have names");
        let row = format!("| 0x{:04X} | {name} |", status.0);
        assert!(CONTRACT.contains(&row), "PROTOCOL.md lacks {row}");
    }
    let rows = CONTRACT
        .lines()
        .filter(|line| line.starts_with("| 0x0") && line[8..].starts_with(" |"));
    assert_eq!(
        rows.count(),
        Status::ALL.len(),
        "PROTOCOL.md has a status that the crate lacks"
    );
    assert_eq!(Status::NOT_A_NUMBER.class(), Class::Outcome);
    assert_eq!(Status::OVERLOADED.class(), Class::Refused);
    assert_eq!(Status::DRAINED.class(), Class::Closing);
    assert_eq!(Status::INTERNAL.class(), Class::Unknown);
    assert_eq!(Status(0xffff).class(), Class::Unknown);
}

#[test]
fn every_request_stands_in_the_table_with_its_number() {
    for opcode in Opcode::ALL.into_iter().filter(|opcode| !opcode.is_notice()) {
        let row = format!("| 0x{:02X} | {opcode} |", opcode as u8);
        assert!(CONTRACT.contains(&row), "PROTOCOL.md lacks {row}");
    }
}
