//! Bytes are a program for the engine and its model, which must answer alike.
//!
//! ```text
//! step   kind u8 | arguments
//! value  length u8: below 200 so many bytes follow; else one byte follows, repeated: a few
//!        thousand times, or from 250 on hundred thousands of times
//! time   below 192: so many milliseconds pass; below 224: the clock is set to another time;
//!        below 250: a session maintains; else the cache dies, and another one goes on in its memory
//! ```

#![no_main]

#[path = "../../tests/support/mod.rs"]
#[allow(dead_code, reason = "the tests use the other parts")]
mod support;

use larder::{AccessTimes, Arithmetic, Initial, Invalidation, Mode, NewExpiry, Terms};
use libfuzzer_sys::fuzz_target;
use support::meaning::Call;
use support::twins::{Step, Twins};

/// LIMIT: the smallest memory that a cache accepts, so that short programs fill it.
const MEMORY_BYTES: u64 = 2 << 20;
/// LIMIT: more keys than fit, and few enough to meet again.
const KEYS: u64 = 5000;
/// LIMIT: steps of a program, so that each takes milliseconds.
const STEPS_MAX: usize = 200;
/// LIMIT: of these, steps that touch many keys: enough to fill the memory a few times.
const LARGE_STEPS_MAX: usize = 14;
/// LIMIT: from here on a value's length stands for many bytes, up to more than lie beside their key.
const LONG_VALUE: u8 = 200;
const LONG_VALUE_STEP_BYTES: usize = 310;
/// From here on for very many, up to more than are accepted.
const HUGE_VALUE: u8 = 250;
const HUGE_VALUE_STEP_BYTES: usize = 105_000;
/// Where a clock may be set to: when programs begin, before and after, and far from that.
const TIMES_MS: [u64; 8] = [
    0,
    1,
    999_900,
    1_000_000,
    1_000_060,
    1_000_300,
    2_000_000,
    1 << 42,
];

struct Program<'b> {
    bytes: &'b [u8],
    large_steps: usize,
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        self.bytes.split_off_first().copied().unwrap_or(0)
    }

    fn key(&mut self) -> u64 {
        // Mostly among the first few.
        let (high, low) = (self.byte(), self.byte());
        u64::from(high.saturating_sub(128)) * 64 + u64::from(low % 64)
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX - u64::from(self.byte()),
            low => u64::from(low),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let length = self.byte();
        if let Some(steps) = length.checked_sub(HUGE_VALUE) {
            self.large_steps += 1;
            return vec![self.byte(); usize::from(steps) * HUGE_VALUE_STEP_BYTES];
        }
        if let Some(steps) = length.checked_sub(LONG_VALUE) {
            return vec![self.byte(); usize::from(steps) * LONG_VALUE_STEP_BYTES];
        }
        let end = usize::from(length).min(self.bytes.len());
        let (value, rest) = self.bytes.split_at(end);
        self.bytes = rest;
        value.to_vec()
    }

    /// Mostly never.
    fn expiry(&mut self) -> Option<u64> {
        let ms = self.byte();
        ms.checked_sub(192).map(u64::from)
    }

    /// Mostly none, and else one of few that come again. (1 is what steps name as an earlier one.)
    fn new_version(&mut self) -> Option<u64> {
        self.byte().checked_sub(240).map(|of| u64::from(of) + 2)
    }

    fn store(&mut self) -> Call {
        use Mode::{Add, Append, Prepend, Replace, Set};
        let mode = [Set, Add, Replace, Append, Prepend][usize::from(self.byte() % 5)];
        Call::Store {
            mode,
            flags: u32::from(self.byte() / 64),
            expires_at_ms: self.expiry(),
            new_version: self.new_version(),
            value: self.value(),
        }
    }

    fn count(&mut self) -> Call {
        let kind = self.byte();
        let by = self.number();
        let by = match kind & 1 {
            0 => Arithmetic::Increment(by),
            _ => Arithmetic::Decrement(by),
        };
        let initial = (kind & 2 != 0).then(|| Initial {
            value: self.number(),
            expires_at_ms: self.expiry(),
        });
        Call::Count {
            by,
            initial,
            new_version: self.new_version(),
        }
    }

    fn step(&mut self) -> Step {
        let kind = self.byte();
        let session = usize::from(kind / 64);
        if let Some(step) = self.about_leases(kind, session) {
            return step;
        }
        let call = match kind % 16 {
            0..=3 => self.store(),
            4 => Call::Get,
            5 => self.count(),
            6 => Call::Delete { version: None },
            7 => Call::Touch {
                expires_at_ms: self.expiry(),
            },
            8 => Call::GetAndTouch {
                expires_at_ms: self.expiry(),
            },
            other => return self.other(other, session),
        };
        let key = self.key();
        Step::Call { session, key, call }
    }

    /// What the kinds of three other steps say in a place that those do not look at.
    fn about_leases(&mut self, kind: u8, session: usize) -> Option<Step> {
        if kind / 16 % 4 != 3 {
            return None;
        }
        let expiry = |ms: Option<u64>| match ms {
            Some(ms) => NewExpiry::At(Some(ms)),
            None => NewExpiry::Kept,
        };
        let call = match kind % 16 {
            4 => Call::GetOrLease {
                terms: Terms {
                    placeholder_until_ms: self.expiry(),
                    refresh_below_ms: self.expiry(),
                    expiry: expiry(self.expiry()),
                    new_version: self.new_version(),
                    ..Terms::default()
                },
            },
            6 => Call::Invalidate {
                how: Invalidation {
                    expiry: expiry(self.expiry()),
                    new_version: self.new_version(),
                    ..Invalidation::default()
                },
            },
            8 => {
                return Some(Step::EndLease {
                    key: self.key(),
                    is_current: self.byte() < 200,
                });
            }
            _ => return None,
        };
        let key = self.key();
        Some(Step::Call { session, key, call })
    }

    fn time(&mut self, session: usize) -> Step {
        match self.byte() {
            ms @ 0..192 => Step::Pass { ms: ms.into() },
            time @ 192..224 => Step::Jump {
                to_ms: TIMES_MS[usize::from(time % 8)],
            },
            224..250 => Step::Maintain { session },
            _ => Step::Die,
        }
    }

    fn other(&mut self, kind: u8, session: usize) -> Step {
        self.large_steps += usize::from((11..14).contains(&kind));
        match kind {
            9 | 10 => Step::Conditional {
                key: self.key(),
                is_current: self.byte() < 160,
                value: (kind == 9).then(|| self.value()),
            },
            11 => Step::Burst {
                session,
                first: self.key(),
                keys: u64::from(self.byte() / 2),
                value_bytes: usize::from(self.byte()) * 24,
            },
            12 => Step::GetMany {
                session,
                first: self.key(),
                keys: u64::from(self.byte() / 4),
            },
            13 => match self.byte() {
                byte @ 0..128 => Step::Scan {
                    items: usize::from(byte),
                },
                _ => Step::Renew { session },
            },
            14 => self.time(session),
            _ => Step::FlushIn {
                ms: u64::from(self.byte()),
            },
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut program = Program {
        bytes,
        large_steps: 0,
    };
    let mut twins = Twins::new(MEMORY_BYTES, KEYS, AccessTimes::Off);
    for _ in 0..STEPS_MAX {
        if program.bytes.is_empty() || program.large_steps == LARGE_STEPS_MAX {
            break;
        }
        twins.step(program.step());
    }
    twins.finish();
});
