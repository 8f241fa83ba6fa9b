//! Memory that anybody may have written to: recovery gives a cache that agrees with itself, and goes
//! on, or a refusal.
//!
//! ```text
//! input    shape u8 | changes ...
//! shape    bit 0: the memory of a cache that was filled, or else of an empty one
//!          bit 1: lengths alone are proved, or else contents as well
//! change   kind u8 | place u16 | bytes ...
//! kind     high bits: which part of the arena the place is in; low bits: 8 bytes that follow, one byte
//!          that follows, a word with one bit turned over, or a copy of the word at another place (u16)
//! ```

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use larder::{Arithmetic, Cache, Config, Entry, Initial, Mode, Proof};
use libfuzzer_sys::fuzz_target;

/// LIMIT: the smallest memory that a cache accepts.
const MEMORY_BYTES: u64 = 2 << 20;
/// LIMIT: changes of one input, so that each takes milliseconds.
const CHANGES_MAX: usize = 200;

fn config() -> Config {
    let mut config = Config::new(MEMORY_BYTES);
    config.sessions_max = 2;
    config.hash_seed = Some(7);
    config.first_version = Some(1);
    config
}

/// A memory, byte by byte, as a process that died left it.
fn image(keys: u32) -> Vec<u8> {
    let cache = Cache::new(config()).expect("a cache");
    let mut session = cache.session().expect("a session");
    for number in 0..keys {
        let name = format!("key {}", number % 3000);
        let mut guard = session.pin(1);
        let key = guard.key(name.as_bytes()).expect("a key");
        let value = vec![
            number as u8;
            if number % 97 == 0 {
                20_000
            } else {
                number as usize % 200
            }
        ];
        let entry = Entry {
            value: &value,
            flags: number % 2,
            expires_at_ms: (number % 7 == 0).then_some(u64::from(number) + 5000),
            new_version: (number % 13 == 0).then_some(u64::from(number)),
        };
        let _ = match number % 11 {
            0 => {
                let initial = Some(Initial {
                    value: 1,
                    expires_at_ms: None,
                });
                guard
                    .arithmetic(&key, Arithmetic::Increment(1), initial)
                    .is_ok()
            }
            _ => guard.store(&key, Mode::Set, &entry).is_ok(),
        };
    }
    let file = File::from(cache.memory().try_clone_to_owned().expect("a descriptor"));
    let mut bytes = vec![0; file.metadata().expect("a size").len() as usize];
    // Before the session ends, as it would not if its process died.
    file.read_exact_at(&mut bytes, 0).expect("it can be read");
    drop(session);
    bytes
}

fn images() -> &'static [Vec<u8>; 2] {
    static IMAGES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| [image(0), image(12_000)])
}

struct Changes<'b>(&'b [u8]);

impl Changes<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        u64::from(self.byte()) << 8 | u64::from(self.byte())
    }

    /// The word at a place: in the header, in the counters and the table, or anywhere.
    fn place(&mut self, part: u8, arena_bytes: u64) -> u64 {
        let number = self.number();
        let at = match part % 4 {
            0 => number % 640,
            1 => 4096 + number % 16_384,
            2 => 4096 + number * 8 % (256 << 10),
            _ => number * 8 * 61 % arena_bytes,
        };
        at & !7
    }

    /// Makes one change; which bytes, and what they are.
    fn next(&mut self, image: &[u8]) -> (u64, [u8; 8]) {
        let kind = self.byte();
        let bytes = image.len() as u64;
        let at = self.place(kind >> 6, bytes);
        let word = |at: u64| -> [u8; 8] {
            let at = at as usize;
            image[at..at + 8].try_into().expect("8 bytes")
        };
        let mut now = word(at);
        match kind % 4 {
            0 => now = [(); 8].map(|()| self.byte()),
            1 => now[usize::from(kind / 4 % 8)] = self.byte(),
            2 => now[usize::from(kind / 4 % 8)] ^= 1 << (self.byte() % 8),
            _ => now = word(self.place(kind >> 4, bytes)),
        }
        (at, now)
    }
}

/// A memory with these contents, and with what was changed.
fn memory(image: &[u8], changes: &mut Changes<'_>) -> File {
    let cache = Cache::new(config()).expect("a cache");
    let file = File::from(cache.memory().try_clone_to_owned().expect("a descriptor"));
    for (number, page) in image.chunks(4096).enumerate() {
        if page.iter().any(|&byte| byte != 0) {
            file.write_all_at(page, number as u64 * 4096)
                .expect("it can be written");
        }
    }
    for _ in 0..CHANGES_MAX {
        if changes.0.is_empty() {
            break;
        }
        let (at, now) = changes.next(image);
        file.write_all_at(&now, at).expect("it can be written");
    }
    file
}

fuzz_target!(|bytes: &[u8]| {
    let mut changes = Changes(bytes);
    let shape = changes.byte();
    let file = memory(&images()[usize::from(shape % 2)], &mut changes);
    let proof = match shape / 2 % 2 {
        0 => Proof::Contents,
        _ => Proof::Lengths,
    };
    let Ok((cache, receipt)) = Cache::recover(file.into(), &config(), proof) else {
        return;
    };
    let mut session = cache.session().expect("a session");
    let verify = |session: &mut larder::Session| {
        // Whose contents were not proved may have others.
        if proof == Proof::Contents {
            assert_eq!(session.verify(), Ok(()), "{receipt:#?}");
        }
    };
    verify(&mut session);
    assert_eq!(receipt.items, cache.stats().items);
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        cursor = session
            .pin(1)
            .scan(at, 100, |item| drop(item.value().into_owned()));
    }
    // What was not proved is, and what is damaged goes.
    for step in 0..300 {
        let _ = session.maintain(step * 10);
    }
    // It goes on: everything is overwritten, evicted, cleaned or expires.
    for number in 0..4000_u32 {
        let name = format!("key {}", number % 3000);
        let mut guard = session.pin(u64::from(number) * 10);
        let key = guard.key(name.as_bytes()).expect("a key");
        let _ = guard.get(&key).map(|item| item.value().into_owned());
        let value = vec![1; number as usize % 900];
        let _ = guard.store(&key, Mode::Set, &Entry::of(&value));
    }
    verify(&mut session);
});
