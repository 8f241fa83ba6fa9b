//! What people hand over for a trace and is none, by its first bytes, and what they do about it.

/// What the files of programs begin with: the program, those bytes, and what decompresses it.
const COMPRESSED: [(&str, &[u8], &str); 3] = [
    // The byte behind the magic number is the one method that there is.
    ("gzip", b"\x1f\x8b\x08", "zcat"),
    ("bzip2", b"BZh", "bzcat"),
    ("xz", b"\xfd7zXZ\0", "xzcat"),
];

/// What bzip2 has behind its magic number and the size of its blocks.
const BZIP2_BLOCK: &[u8] = b"1AY&SY";

/// Why bytes that begin like this are no trace, and what makes one of them; `None`: they may be one.
pub(super) fn complaint(first: &[u8]) -> Option<String> {
    if is_utf_16(first) {
        return Some(
            "it is text in UTF-16; have it converted: iconv -f UTF-16 -t UTF-8 FILE | larder replay -"
                .to_owned(),
        );
    }
    let (name, _, program) = COMPRESSED.into_iter().find(|(name, magic, _)| {
        let rest = first.strip_prefix(*magic);
        // A record of libCacheSim's may begin with the same three letters.
        rest.is_some_and(|rest| *name != "bzip2" || rest.get(1..7) == Some(BZIP2_BLOCK))
    })?;
    Some(format!(
        "it is compressed with {name}; pipe it through {program}: {program} FILE | larder replay -"
    ))
}

/// Whether these are the mark of UTF-16, in either order, and ASCII in it behind that. The mark alone
/// may be a time of libCacheSim's.
fn is_utf_16(first: &[u8]) -> bool {
    let (mark, text) = first.split_at(first.len().min(2));
    let high = match mark {
        b"\xff\xfe" => 1,
        b"\xfe\xff" => 0,
        _ => return false,
    };
    let units = text.chunks_exact(2);
    units.len() > 0
        && units
            .clone()
            .all(|unit| unit[high] == 0 && unit[1 - high].is_ascii() && unit[1 - high] != 0)
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn what_is_compressed_otherwise_is_named_with_what_decompresses_it() {
        for (first, words) in [
            (
                &b"\x1f\x8b\x08\x08\x4f\x1a"[..],
                "with gzip; pipe it through zcat: zcat FILE |",
            ),
            (b"BZh91AY&SY\x02", "bzcat FILE |"),
            (b"\xfd7zXZ\0\0\x04", "xzcat FILE |"),
            (b"\xff\xfek\0e\0y\0", "iconv -f UTF-16"),
            (b"\xfe\xff\0k\0e\0y", "iconv -f UTF-16"),
        ] {
            let complaint = complaint(first).unwrap_or_default();
            assert!(complaint.contains(words), "{words}: {complaint}");
        }
    }

    #[test]
    fn a_record_that_begins_like_another_file_is_one() {
        let records: [&[u8]; 4] = [
            b"\x1f\x8b\x00\x00\x07\0\0\0\0\0\0\0",
            b"BZh9\x07\0\0\0\0\0\0\0",
            b"\xff\xfe\x00\x00\x07\0\0\0\0\0\0\0",
            b"\xff\xfe",
        ];
        for record in records {
            assert_eq!(complaint(record), None, "{record:?}");
        }
    }
}
