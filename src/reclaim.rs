//! The one door to epoch reclamation: when memory that readers may still see can be reused.
//!
//! A [`Collector`] belongs to one cache. Each session registers a [`Handle`] with it and pins it
//! around every batch; a [`Pin`] is the proof. What is deferred under a pin runs once every pin
//! that was live at that moment is gone. The work is crossbeam-epoch's; `loom-tests` puts the
//! strictest reclaimer that this contract allows behind the same names.

/// One cache's reclamation domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector(crossbeam_epoch::Collector);

impl Collector {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Registers one thread's (or one session's) participant.
    pub(crate) fn register(&self) -> Handle {
        Handle(self.0.register())
    }
}

/// One participant of a [`Collector`].
#[derive(Debug)]
pub(crate) struct Handle(crossbeam_epoch::LocalHandle);

// SAFETY: a `LocalHandle` is a counted pointer to a participant record whose cells only its owner
// touches; nothing in it is tied to a thread (crossbeam-epoch keeps thread locals only for its
// default collector, which is not used here). `Pin` borrows the handle, so a handle that moves to
// another thread is unpinned, and the move itself orders the two threads.
unsafe impl Send for Handle {}

impl Handle {
    /// Pins: from here to the drop of the result, nothing that is reachable now is reclaimed.
    pub(crate) fn pin(&self) -> Pin<'_> {
        Pin {
            guard: self.0.pin(),
            _handle: std::marker::PhantomData,
        }
    }
}

/// Proof of a pin. Not `Send`: it lives where its handle is borrowed.
pub(crate) struct Pin<'h> {
    guard: crossbeam_epoch::Guard,
    _handle: std::marker::PhantomData<&'h Handle>,
}

impl Pin<'_> {
    /// Runs `action` once every pin that is live now has ended (or been renewed).
    ///
    /// It may run on any thread that pins, renews or collects.
    pub(crate) fn defer(&self, action: impl FnOnce() + Send + 'static) {
        self.guard.defer(action);
        // One action stands for a whole segment: do not let it linger in the thread's own bag.
        self.guard.flush();
    }

    /// Ends this pin and begins another: what was seen under it may now be reclaimed.
    pub(crate) fn renew(&mut self) {
        self.guard.repin();
    }

    /// Tries to let time pass: advances the epoch when nobody holds it back, and runs some of the
    /// actions that are due. Bounded, and waits for nobody.
    pub(crate) fn collect(&self) {
        self.guard.flush();
    }
}
