//! The lists that `lru_crawler` gives: one line for each item that there is, whatever it is.
//!
//! ```text
//! key=<percent-encoded> exp=<seconds of the epoch, or -1> [la=<likewise>] cas=<version> fetch=yes|no cls=1
//!     size=<bytes> flags=<client flags>                                     metadump: one line, ended by " \n"
//! mg <key>\r\n, or mg <key in base64> b\r\n                                 mgdump
//! ```

use std::io::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::command::{DumpStyle, KEY_BYTES_MAX};
use super::reply::push_number;
use crate::engine::{History, Inspected};

/// What stands for itself in the key of a line of metadata.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Writes the line of an item.
pub(super) fn push(style: DumpStyle, inspected: &Inspected<'_>, out: &mut Vec<u8>) {
    match style {
        DumpStyle::Metadata => metadata(inspected, out),
        DumpStyle::Gets => get(inspected.item.key(), out),
    }
}

/// What is behind the last line.
pub(super) fn end(style: DumpStyle) -> &'static [u8] {
    match style {
        DumpStyle::Metadata => b"END\r\n",
        DumpStyle::Gets => b"EN\r\n",
    }
}

fn metadata(inspected: &Inspected<'_>, out: &mut Vec<u8>) {
    let item = &inspected.item;
    out.extend_from_slice(b"key=");
    for piece in percent_encode(item.key(), ENCODED) {
        out.extend_from_slice(piece.as_bytes());
    }
    match item.expires_at_ms() {
        // A begun second counts, as in the answers to `t` and `me`.
        Some(at_ms) => fact(b" exp=", at_ms.div_ceil(1000), out),
        None => out.extend_from_slice(b" exp=-1"),
    }
    if let Some(at_ms) = inspected.read_at_ms {
        fact(b" la=", at_ms / 1000, out);
    }
    fact(b" cas=", item.version(), out);
    out.extend_from_slice(match inspected.history {
        History::Read => &b" fetch=yes"[..],
        History::Unread => b" fetch=no",
    });
    fact(b" cls=", 1, out);
    fact(b" size=", item.bytes(), out);
    fact(b" flags=", item.flags().into(), out);
    out.extend_from_slice(b" \n");
}

fn fact(name: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    push_number(out, number);
}

/// The command that reads the key, if this protocol has one: the other protocol may have longer keys.
fn get(key: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"mg ");
    let is_plain = key.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    match is_plain {
        true => out.extend_from_slice(key),
        // Writing to memory does not fail.
        false => drop(write!(out, "{}", Base64Display::new(key, &STANDARD))),
    }
    if out.len() - start > b"mg ".len() + KEY_BYTES_MAX {
        return out.truncate(start);
    }
    out.extend_from_slice(match is_plain {
        true => &b"\r\n"[..],
        false => b" b\r\n",
    });
}
