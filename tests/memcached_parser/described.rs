//! What the real parser says, in the words of the second one.

use crate::command::{
    Answer, Bounds, Command, Delta, DumpStyle, Flags, Front, KeyForm, MetaCommand, MetaVerb,
    StoreHead, StoreStyle, StoreVerb, Then, Versions, decode_key, first_word, read, read_head,
    words,
};
use crate::oracle::{Limits, Told, shown};

pub(crate) fn front(input: &[u8], limits: Limits) -> Told {
    let bounds = Bounds {
        line_bytes_max: limits.line,
        keys_line_bytes_max: limits.keys_line,
        joined_bytes_max: limits.joined,
    };
    match read(input, &bounds) {
        Front::Command { command, bytes } => Told::Command(described(&command), bytes),
        Front::Incomplete { needed_bytes } => {
            // The value of a store may be on its way.
            if let Some((head, head_bytes)) = read_head(input, &bounds) {
                assert_eq!(head_bytes + head.value_bytes as usize + 2, needed_bytes);
            }
            Told::Incomplete(needed_bytes)
        }
        Front::Refused { complaint, then } => {
            let mut answer = Vec::new();
            complaint.write(&mut answer);
            let skip = match then {
                Then::Skip { bytes } => Some(bytes),
                Then::Close => None,
            };
            Told::Refused(answer, skip)
        }
    }
}

fn told(answer: Answer) -> bool {
    answer == Answer::Wanted
}

fn described(command: &Command<'_>) -> String {
    match command {
        Command::Get { key, style } => {
            let shows = style.versions == Versions::Shown;
            let touch = style.touch.map(|expiry| i64::from(expiry.0));
            format!("get {} versions={shows} touch={touch:?}", shown(key))
        }
        Command::GetMany { keys, style, .. } => {
            assert_eq!(Some(first_word(keys).0), words(keys).next());
            let keys: Vec<String> = words(keys).map(shown).collect();
            let shows = style.versions == Versions::Shown;
            let touch = style.touch.map(|expiry| i64::from(expiry.0));
            format!("get {} versions={shows} touch={touch:?}", keys.join(" "))
        }
        Command::Store { head, value } => store_described(head, value),
        Command::Count { key, delta, answer } => {
            let (name, by) = match delta {
                Delta::Up(by) => ("incr", by),
                Delta::Down(by) => ("decr", by),
            };
            format!("{name} {} by={by} told={}", shown(key), told(*answer))
        }
        Command::Touch {
            key,
            expiry,
            answer,
        } => {
            let key = shown(key);
            format!("touch {key} time={} told={}", expiry.0, told(*answer))
        }
        Command::Delete { key, answer } => {
            format!("delete {} told={}", shown(key), told(*answer))
        }
        Command::Flush { delay, answer } => {
            format!("flush_all time={} told={}", delay.0, told(*answer))
        }
        Command::Stats { group, .. } => format!("stats {}", shown(group)),
        Command::Verbosity { answer } => format!("verbosity told={}", told(*answer)),
        Command::Dump { style } => match style {
            DumpStyle::Metadata => "dump metadata".to_owned(),
            DumpStyle::Gets => "dump gets".to_owned(),
        },
        Command::Version => "version".to_owned(),
        Command::Quit => "quit".to_owned(),
        Command::MetaNoop => "mn".to_owned(),
        Command::Meta(meta) => meta_described(meta),
    }
}

fn store_described(head: &StoreHead<'_>, value: &[u8]) -> String {
    let verb = match head.verb {
        StoreVerb::Set => "set",
        StoreVerb::Add => "add",
        StoreVerb::Replace => "replace",
        StoreVerb::Append => "append",
        StoreVerb::Prepend => "prepend",
    };
    let style = match &head.style {
        StoreStyle::Classic(answer) => format!("told={}", told(*answer)),
        StoreStyle::Meta(flags) => format!("meta {}", flags_described(flags)),
    };
    assert_eq!(head.value_bytes as usize, value.len());
    check_key(head.key, head.key_form());
    format!(
        "{verb} {} flags={} time={} version={:?} {style} value={}",
        shown(head.key),
        head.client_flags,
        head.expiry.0,
        head.version,
        shown(value)
    )
}

fn meta_described(meta: &MetaCommand<'_>) -> String {
    let (key, flags) = (shown(meta.key), &meta.flags);
    check_key(meta.key, flags.key_form);
    let (name, counts) = match meta.verb {
        MetaVerb::Debug => {
            let has_base64 = flags.key_form == KeyForm::Base64;
            return format!("me {key} base64={has_base64}");
        }
        MetaVerb::Get => ("mg", String::new()),
        MetaVerb::Delete => ("md", String::new()),
        MetaVerb::Count { delta } => match delta {
            Delta::Up(by) => ("ma", format!(" up={by}")),
            Delta::Down(by) => ("ma", format!(" down={by}")),
        },
        MetaVerb::Set => unreachable!("a store is another command"),
    };
    format!("{name} {key} {}{counts}", flags_described(flags))
}

/// A key that is said to be base64 can be decoded.
fn check_key(key: &[u8], form: KeyForm) {
    if form == KeyForm::Base64 {
        let decoded = decode_key(key, &mut [0; _]).map(<[u8]>::len);
        assert!(decoded.is_some_and(|bytes| (1..=key.len() / 4 * 3).contains(&bytes)));
    }
}

/// The flags as they were written, once what was read of them is found to be that.
fn flags_described(flags: &Flags<'_>) -> String {
    let all: Vec<&[u8]> = words(flags.text).collect();
    for letter in 0..127 {
        let is_there = all.iter().any(|word| word[0] == letter);
        assert_eq!(flags.has(letter), is_there, "{}", letter as char);
    }
    let token = |letter| {
        all.iter()
            .find(|word| word[0] == letter)
            .map(|word| &word[1..])
    };
    let text = |letter| token(letter).map(|token| String::from_utf8(token.to_vec()).unwrap());
    let number = |letter| text(letter).map(|text| text.parse::<u64>().unwrap());
    let time = |letter| text(letter).map(|text| text.parse::<i32>().unwrap());
    assert_eq!(flags.version, number(b'C'));
    assert_eq!(flags.initial, number(b'J').unwrap_or(0));
    assert_eq!(flags.expiry.map(|expiry| expiry.0), time(b'T'));
    assert_eq!(flags.vivify.map(|expiry| expiry.0), time(b'N'));
    assert_eq!(flags.refresh.map(|expiry| expiry.0), time(b'R'));
    assert_eq!(flags.key_form == KeyForm::Base64, token(b'b').is_some());
    assert_eq!(told(flags.answer()), token(b'q').is_none());
    let all: Vec<String> = all.into_iter().map(shown).collect();
    all.join(" ")
}
