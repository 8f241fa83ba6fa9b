//! Sessions: one thread's handle to the cache.

use crate::engine::cache::Shared;
use crate::engine::guard::Guard;
use crate::engine::writer::Writer;
use crate::reclaim::Handle;
use crate::sync::Arc;

/// One thread's handle to a [`Cache`](crate::Cache).
///
/// It can move to another thread (`Send`), and only one thread can use it at a time (not `Sync`):
///
/// ```compile_fail
/// fn share<T: Sync>() {}
/// share::<larder::Session>();
/// ```
///
/// ```
/// fn hand_over<T: Send>() {}
/// hand_over::<larder::Session>();
/// ```
#[derive(Debug)]
pub struct Session {
    writer: Writer,
    handle: Handle,
    shared: Arc<Shared>,
    number: u32,
    /// `Send`, but not `Sync`.
    _not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, number: u32) -> Self {
        Self {
            writer: Writer::new(&shared, number),
            handle: shared.collector.register(),
            shared,
            number,
            _not_sync: std::marker::PhantomData,
        }
    }

    /// Pins: operations run on the guard, a whole batch on one.
    ///
    /// `now_ms` is the time that they all use, in milliseconds since the Unix epoch (or of any other
    /// clock that the whole program agrees on). Hold a guard for a batch, not for long: memory that
    /// is freed meanwhile cannot be used.
    pub fn pin(&mut self, now_ms: u64) -> Guard<'_> {
        let pin = self.handle.pin();
        Guard::new(&self.shared, pin, &mut self.writer, now_ms)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut pin = self.handle.pin();
        self.writer.end(&self.shared, &mut pin);
        drop(pin);
        self.shared.end_session(self.number);
    }
}
