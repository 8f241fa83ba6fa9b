//! The settings that can change while a server runs.

use std::time::Duration;

use super::clock::whole_ms;
use super::settings::{CONNECTIONS_MAX, SettingError, Settings, TIMEOUT_MIN};
use crate::sync::{AtomicU64, Ordering};

/// What can change while a server runs; see [`Settings`] for what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// [`Settings::connections_max`].
    pub connections_max: u32,
    /// [`Settings::frame_timeout`].
    pub frame_timeout: Duration,
    /// [`Settings::write_timeout`].
    pub write_timeout: Duration,
    /// [`Settings::drain_timeout`].
    pub drain_timeout: Duration,
}

impl Tuning {
    /// That part of all settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            connections_max: settings.connections_max,
            frame_timeout: settings.frame_timeout,
            write_timeout: settings.write_timeout,
            drain_timeout: settings.drain_timeout,
        }
    }

    pub(super) fn check(&self) -> Result<(), SettingError> {
        if !(1..=CONNECTIONS_MAX).contains(&self.connections_max) {
            return Err(SettingError::Connections(self.connections_max));
        }
        let timeouts = [
            ("frame timeout", self.frame_timeout),
            ("write timeout", self.write_timeout),
        ];
        for (name, timeout) in timeouts {
            if timeout < TIMEOUT_MIN {
                return Err(SettingError::Timeout { name });
            }
        }
        Ok(())
    }
}

/// The same, as threads share it. Each figure is for itself.
#[derive(Debug)]
pub(super) struct Tuned {
    connections_max: AtomicU64,
    frame_ms: AtomicU64,
    write_ms: AtomicU64,
    drain_ms: AtomicU64,
}

impl Tuned {
    pub(super) fn new(tuning: &Tuning) -> Self {
        let tuned = Self {
            connections_max: AtomicU64::new(0),
            frame_ms: AtomicU64::new(0),
            write_ms: AtomicU64::new(0),
            drain_ms: AtomicU64::new(0),
        };
        tuned.set(tuning);
        tuned
    }

    pub(super) fn set(&self, tuning: &Tuning) {
        // ORDERING: Relaxed, here and below: nothing is read through them.
        let connections_max = tuning.connections_max.into();
        self.connections_max
            .store(connections_max, Ordering::Relaxed);
        let timeouts = [
            (&self.frame_ms, tuning.frame_timeout),
            (&self.write_ms, tuning.write_timeout),
            (&self.drain_ms, tuning.drain_timeout),
        ];
        for (word, timeout) in timeouts {
            word.store(whole_ms(timeout), Ordering::Relaxed);
        }
    }

    pub(super) fn connections_max(&self) -> u32 {
        // It was a u32.
        self.connections_max.load(Ordering::Relaxed) as u32
    }

    pub(super) fn frame_ms(&self) -> u64 {
        self.frame_ms.load(Ordering::Relaxed)
    }

    pub(super) fn write_ms(&self) -> u64 {
        self.write_ms.load(Ordering::Relaxed)
    }

    pub(super) fn drain_ms(&self) -> u64 {
        self.drain_ms.load(Ordering::Relaxed)
    }
}
