//! Phases, operations and outcomes, as numbers in a box and as names in logs and metrics.

/// An enumeration whose numbers stand in a box, in the order of its lines.
macro_rules! numbered {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The one of this number.
            pub(crate) fn of(number: u64) -> Option<Self> {
                Self::ALL.get(usize::try_from(number).ok()?).copied()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let mut all = Self::ALL.iter();
                all.find(|one| one.name() == text).copied().ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|one| one.name()).collect();
                    format!("there is no `{text}`; accepted: {}", names.join(", "))
                })
            }
        }
    };
}

numbered! {
    /// Whose box it is.
    Kind {
        /// A worker, which serves connections.
        Worker = "worker",
        /// The maintenance thread.
        Upkeep = "upkeep",
        /// The thread that accepts connections.
        Acceptor = "acceptor",
    }
}

numbered! {
    /// What a thread does.
    Phase {
        /// It has not begun.
        Starting = "starting",
        /// It waits for something to do.
        Sleeping = "sleeping",
        /// It reads from a connection.
        Reading = "reading",
        /// It makes requests out of bytes.
        Parsing = "parsing",
        /// It executes requests.
        Executing = "executing",
        /// It writes to a connection.
        Writing = "writing",
        /// It looks after what nobody asked for: deadlines, room in the cache.
        Maintaining = "maintaining",
        /// It takes connections in.
        Accepting = "accepting",
        /// It has ended.
        Ended = "ended",
    }
}

numbered! {
    /// What a request asks for.
    Operation {
        /// A read of one key.
        Get = "get",
        /// A read that does not count as a use.
        Peek = "peek",
        /// A read that changes the expiry.
        GetAndTouch = "get_and_touch",
        /// A change of the expiry.
        Touch = "touch",
        /// A store, whatever is there.
        Set = "set",
        /// A store where nothing is.
        Add = "add",
        /// A store where something is.
        Replace = "replace",
        /// A store of the version that was read.
        CompareAndSet = "cas",
        /// An addition behind what is there.
        Append = "append",
        /// An addition before what is there.
        Prepend = "prepend",
        /// An addition to a number.
        Increment = "increment",
        /// A subtraction from a number.
        Decrement = "decrement",
        /// A removal.
        Delete = "delete",
        /// A read on terms.
        GetOrLease = "get_or_lease",
        /// A mark that an item is stale.
        Invalidate = "invalidate",
        /// A lease given back.
        EndLease = "end_lease",
        /// Reads of many keys, each answered by itself.
        GetEach = "get_each",
        /// Reads of many keys in one frame.
        MultiGet = "multi_get",
        /// Stores of many keys in one frame.
        MultiSet = "multi_set",
        /// Removals of many keys in one frame.
        MultiDelete = "multi_delete",
        /// A removal of everything.
        Flush = "flush",
        /// A page of the keys.
        Scan = "scan",
        /// Figures.
        Stats = "stats",
        /// Figures that begin anew.
        ResetStats = "reset_stats",
        /// A sign of life.
        Ping = "ping",
        /// A farewell.
        Quit = "quit",
    }
}

numbered! {
    /// What came of an operation.
    Outcome {
        /// Nothing yet: it has begun.
        Begun = "begun",
        /// The item was there.
        Hit = "hit",
        /// There is no such item.
        Miss = "miss",
        /// Something was stored.
        Stored = "stored",
        /// A condition did not hold.
        NotStored = "not_stored",
        /// The item has another version.
        Exists = "exists",
        /// It was done.
        Done = "done",
        /// The item holds no number.
        NotANumber = "not_a_number",
        /// It could not be what it was meant to be, and was not executed.
        Refused = "refused",
        /// Key or value are too large.
        TooLarge = "too_large",
        /// There was no memory.
        NoSpace = "no_space",
        /// It was not executed, since its like has brought the server down.
        Quarantined = "quarantined",
        /// A part of it was answered; the rest is an operation of its own.
        Part = "part",
        /// It ended by a panic.
        Panicked = "panicked",
    }
}

const _: () = assert!(Operation::ALL.len() <= super::layout::OPERATIONS_MAX);
const _: () = assert!(Phase::ALL.len() <= 16 && Outcome::ALL.len() <= 16);
