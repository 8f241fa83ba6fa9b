//! The classic commands, and what they do.

use crate::script::{Script, run_in_every_way};

const STORES: &[Script] = &[
    Script {
        name: "what is set can be read, with its flags, and deleted",
        steps: &[
            ("get apple\r\n", "END\r\n"),
            ("set apple 17 0 5\r\ngreen\r\n", "STORED\r\n"),
            ("get apple\r\n", "VALUE apple 17 5\r\ngreen\r\nEND\r\n"),
            ("delete apple\r\n", "DELETED\r\n"),
            ("delete apple\r\n", "NOT_FOUND\r\n"),
            ("get apple\r\n", "END\r\n"),
        ],
    },
    Script {
        name: "a value may be empty, and may hold line ends and commands",
        steps: &[
            ("set none 0 0 0\r\n\r\n", "STORED\r\n"),
            ("get none\r\n", "VALUE none 0 0\r\n\r\nEND\r\n"),
            (
                "set lines 0 0 14\r\nget none\r\nEND\r\n\r\n",
                "CLIENT_ERROR bad data chunk\r\nERROR\r\n",
            ),
            ("set lines 0 0 15\r\nget none\r\nEND\r\n\r\n", "STORED\r\n"),
            (
                "get lines\r\n",
                "VALUE lines 0 15\r\nget none\r\nEND\r\n\r\nEND\r\n",
            ),
        ],
    },
    Script {
        name: "flags have 32 bits",
        steps: &[
            ("set k 4294967295 0 1\r\na\r\n", "STORED\r\n"),
            ("get k\r\n", "VALUE k 4294967295 1\r\na\r\nEND\r\n"),
            ("set k 65536 0 1\r\nb\r\n", "STORED\r\n"),
            ("get k\r\n", "VALUE k 65536 1\r\nb\r\nEND\r\n"),
        ],
    },
    Script {
        name: "add, replace, append and prepend keep their conditions",
        steps: &[
            ("replace k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("append k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("prepend k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("add k 5 0 1\r\nb\r\n", "STORED\r\n"),
            ("add k 0 0 1\r\nc\r\n", "NOT_STORED\r\n"),
            // The flags of the item stay.
            ("append k 9 0 1\r\nc\r\n", "STORED\r\n"),
            ("prepend k 9 0 1\r\na\r\n", "STORED\r\n"),
            ("get k\r\n", "VALUE k 5 3\r\nabc\r\nEND\r\n"),
            ("replace k 6 0 1\r\nz\r\n", "STORED\r\n"),
            ("get k\r\n", "VALUE k 6 1\r\nz\r\nEND\r\n"),
        ],
    },
    Script {
        name: "cas stores over the version that it names and no other",
        steps: &[
            ("cas k 0 0 1 1\r\na\r\n", "NOT_FOUND\r\n"),
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("gets k\r\n", "VALUE k 0 1 {first}\r\na\r\nEND\r\n"),
            ("cas k 3 0 1 {first}\r\nb\r\n", "STORED\r\n"),
            ("cas k 0 0 1 {first}\r\nc\r\n", "EXISTS\r\n"),
            ("cas k 0 0 1 0\r\nc\r\n", "EXISTS\r\n"),
            ("gets k\r\n", "VALUE k 3 1 {second}\r\nb\r\nEND\r\n"),
            ("touch k 100\r\n", "TOUCHED\r\n"),
            // A touch is no change of the value.
            ("gets k\r\n", "VALUE k 3 1 {second}\r\nb\r\nEND\r\n"),
            ("cas k 0 0 1 {second} noreply\r\nd\r\n", ""),
            ("get k\r\n", "VALUE k 0 1\r\nd\r\nEND\r\n"),
        ],
    },
    Script {
        name: "noreply is kept by every command that has it",
        steps: &[
            ("set k 0 0 1 noreply\r\na\r\nmn\r\n", "MN\r\n"),
            ("add k 0 0 1 noreply\r\nb\r\nmn\r\n", "MN\r\n"),
            ("append k 0 0 1 noreply\r\nb\r\nmn\r\n", "MN\r\n"),
            ("prepend k 0 0 1 noreply\r\n0\r\nmn\r\n", "MN\r\n"),
            ("get k\r\n", "VALUE k 0 3\r\n0ab\r\nEND\r\n"),
            ("replace k 0 0 1 noreply\r\n7\r\nmn\r\n", "MN\r\n"),
            ("incr k 3 noreply\r\nmn\r\n", "MN\r\n"),
            ("decr k 1 noreply\r\nmn\r\n", "MN\r\n"),
            ("touch k 0 noreply\r\nmn\r\n", "MN\r\n"),
            ("get k\r\n", "VALUE k 0 1\r\n9\r\nEND\r\n"),
            ("delete k noreply\r\nmn\r\n", "MN\r\n"),
            ("get k\r\n", "END\r\n"),
            (
                "delete k noreply\r\nincr k 1 noreply\r\ntouch k 1 noreply\r\nmn\r\n",
                "MN\r\n",
            ),
            ("verbosity 1 noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all 0 noreply\r\nmn\r\n", "MN\r\n"),
        ],
    },
    Script {
        name: "a delete may carry the 0 that was a time once",
        steps: &[
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("delete k 0\r\n", "DELETED\r\n"),
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("delete k 0 noreply\r\nget k\r\n", "END\r\n"),
            (
                "delete k 5\r\n",
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
            ),
            (
                "delete k noreply 0\r\n",
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
            ),
        ],
    },
];

const RETRIEVALS: &[Script] = &[
    Script {
        name: "many keys are answered in their order, without those that are missing",
        steps: &[
            (
                "set a 1 0 1\r\nA\r\nset b 2 0 2\r\nBB\r\n",
                "STORED\r\nSTORED\r\n",
            ),
            (
                "get b missing a b\r\n",
                "VALUE b 2 2\r\nBB\r\nVALUE a 1 1\r\nA\r\nVALUE b 2 2\r\nBB\r\nEND\r\n",
            ),
            ("get x y z\r\n", "END\r\n"),
            (
                "gets a b\r\n",
                "VALUE a 1 1 {a}\r\nA\r\nVALUE b 2 2 {b}\r\nBB\r\nEND\r\n",
            ),
            (
                "get  a   b  \r\n",
                "VALUE a 1 1\r\nA\r\nVALUE b 2 2\r\nBB\r\nEND\r\n",
            ),
            ("get a \r\n", "VALUE a 1 1\r\nA\r\nEND\r\n"),
        ],
    },
    Script {
        name: "more keys than one batch of look-ups",
        steps: &[
            (
                "set a 0 0 1\r\nA\r\nset b 0 0 1\r\nB\r\n",
                "STORED\r\nSTORED\r\n",
            ),
            (
                "get{ a x*20} b\r\n",
                "{VALUE a 0 1\r\nA\r\n*20}VALUE b 0 1\r\nB\r\nEND\r\n",
            ),
        ],
    },
    Script {
        name: "gat and gats change when items expire, and read them",
        steps: &[
            (
                "set a 0 100 1\r\nA\r\nset b 0 100 1\r\nB\r\n",
                "STORED\r\nSTORED\r\n",
            ),
            ("gat 0 a\r\n", "VALUE a 0 1\r\nA\r\nEND\r\n"),
            ("mg a t\r\n", "HD t-1\r\n"),
            ("gats 1000 b\r\n", "VALUE b 0 1 {b}\r\nB\r\nEND\r\n"),
            ("mg b t c\r\n", "HD t1000 c{b}\r\n"),
            (
                "gat 0 b x a\r\n",
                "VALUE b 0 1\r\nB\r\nVALUE a 0 1\r\nA\r\nEND\r\n",
            ),
            ("mg b t\r\n", "HD t-1\r\n"),
            ("gats 5 x\r\n", "END\r\n"),
            (
                "gat -1 a b\r\n",
                "VALUE a 0 1\r\nA\r\nVALUE b 0 1\r\nB\r\nEND\r\n",
            ),
            ("get a b\r\n", "END\r\n"),
        ],
    },
    Script {
        name: "a line may end without a carriage return",
        steps: &[
            ("set k 0 0 1\na\r\n", "STORED\r\n"),
            ("get k\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
            (
                "get k k\n",
                "VALUE k 0 1\r\na\r\nVALUE k 0 1\r\na\r\nEND\r\n",
            ),
            ("delete k\n", "DELETED\r\n"),
        ],
    },
    Script {
        name: "bytes that are neither a space nor a line end belong to a key",
        steps: &[
            ("set a\tb\u{1}\u{0} 0 0 1\r\nv\r\n", "STORED\r\n"),
            (
                "get a\tb\u{1}\u{0}\r\n",
                "VALUE a\tb\u{1}\u{0} 0 1\r\nv\r\nEND\r\n",
            ),
            ("get a\r\r\n", "END\r\n"),
            ("set a\rb 0 0 1\r\nw\r\n", "STORED\r\n"),
            ("get a\rb x\r\n", "VALUE a\rb 0 1\r\nw\r\nEND\r\n"),
            ("set \u{e9}\u{e9} 0 0 1\r\nx\r\n", "STORED\r\n"),
            (
                "get \u{e9}\u{e9}\r\n",
                "VALUE \u{e9}\u{e9} 0 1\r\nx\r\nEND\r\n",
            ),
        ],
    },
];

const NUMBERS: &[Script] = &[
    Script {
        name: "counters wrap at the top and stop at the bottom",
        steps: &[
            ("incr n 1\r\n", "NOT_FOUND\r\n"),
            ("decr n 1\r\n", "NOT_FOUND\r\n"),
            ("set n 7 0 2\r\n10\r\n", "STORED\r\n"),
            ("incr n 5\r\n", "15\r\n"),
            ("decr n 6\r\n", "9\r\n"),
            // As long as it has digits: nothing is padded.
            ("get n\r\n", "VALUE n 7 1\r\n9\r\nEND\r\n"),
            ("decr n 10\r\n", "0\r\n"),
            ("set n 0 0 20\r\n18446744073709551615\r\n", "STORED\r\n"),
            ("incr n 1\r\n", "0\r\n"),
            (
                "incr n 18446744073709551615\r\n",
                "18446744073709551615\r\n",
            ),
            ("incr n 2\r\n", "1\r\n"),
            ("incr n 0\r\n", "1\r\n"),
        ],
    },
    Script {
        name: "a counter is a value as any other",
        steps: &[
            (
                "set n 3 0 1\r\n5\r\nincr n 1\r\nincr n 1\r\n",
                "STORED\r\n6\r\n7\r\n",
            ),
            ("gets n\r\n", "VALUE n 3 1 {cas}\r\n7\r\nEND\r\n"),
            ("append n 0 0 1\r\n0\r\n", "STORED\r\n"),
            ("incr n 1\r\n", "71\r\n"),
            ("cas n 0 0 1 {cas}\r\n0\r\n", "EXISTS\r\n"),
            (
                "incr n 29\r\nget n\r\n",
                "100\r\nVALUE n 3 3\r\n100\r\nEND\r\n",
            ),
        ],
    },
    Script {
        name: "what is no number is not counted",
        steps: &[
            ("set n 0 0 1\r\nx\r\n", "STORED\r\n"),
            (
                "incr n 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
            (
                "decr n 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
            (
                "set n 0 0 0\r\n\r\nset m 0 0 2\r\n-1\r\n",
                "STORED\r\nSTORED\r\n",
            ),
            (
                "incr n 1\r\nincr m 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n\
                 CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
            ("set n 0 0 20\r\n18446744073709551616\r\n", "STORED\r\n"),
            (
                "incr n 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
            ("set n 0 0 21\r\n000000000000000000001\r\n", "STORED\r\n"),
            (
                "incr n 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
            ("set n 0 0 20\r\n00000000000000000001\r\n", "STORED\r\n"),
            ("incr n 1\r\n", "2\r\n"),
        ],
    },
];

const TIMES: &[Script] = &[
    Script {
        name: "up to 30 days a time is relative, and above it is one of the Unix epoch",
        steps: &[
            (
                "set k 0 2592000 1\r\na\r\nmg k t\r\n",
                "STORED\r\nHD t2592000\r\n",
            ),
            ("set k 0 2592001 1\r\na\r\nmg k t\r\n", "STORED\r\nEN\r\n"),
            (
                "set k 0 {now+7200} 1\r\na\r\nget k\r\n",
                "STORED\r\nVALUE k 0 1\r\na\r\nEND\r\n",
            ),
            ("touch k {now+3600}\r\nmg k s\r\n", "TOUCHED\r\nHD s1\r\n"),
            ("touch k 0\r\nmg k t\r\n", "TOUCHED\r\nHD t-1\r\n"),
            ("touch k 2592001\r\nget k\r\n", "TOUCHED\r\nEND\r\n"),
            ("touch k 0\r\n", "NOT_FOUND\r\n"),
        ],
    },
    Script {
        name: "a negative time is over at once",
        steps: &[
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("set k 0 -1 1\r\nb\r\n", "STORED\r\n"),
            ("get k\r\n", "END\r\n"),
            (
                "add k 0 -2147483648 1\r\nb\r\nget k\r\n",
                "STORED\r\nEND\r\n",
            ),
            (
                "set k 0 0 1\r\nc\r\ntouch k -5\r\nget k\r\n",
                "STORED\r\nTOUCHED\r\nEND\r\n",
            ),
        ],
    },
    Script {
        name: "a flush takes what is there now, or what is there later",
        steps: &[
            (
                "set k 0 0 1\r\na\r\nflush_all\r\nget k\r\n",
                "STORED\r\nOK\r\nEND\r\n",
            ),
            // What is stored after a flush stays, in the same second also.
            (
                "set k 0 0 1\r\nb\r\nget k\r\n",
                "STORED\r\nVALUE k 0 1\r\nb\r\nEND\r\n",
            ),
            (
                "flush_all 3600\r\nget k\r\n",
                "OK\r\nVALUE k 0 1\r\nb\r\nEND\r\n",
            ),
            ("flush_all 2592001\r\nget k\r\n", "OK\r\nEND\r\n"),
            (
                "set k 0 0 1\r\nb\r\nflush_all -1\r\nget k\r\n",
                "STORED\r\nOK\r\nEND\r\n",
            ),
            // The next one takes the place of the one that is still to come.
            ("flush_all 0\r\n", "OK\r\n"),
        ],
    },
];

const SERVER: &[Script] = &[Script {
    name: "what a server says about itself, and ends",
    steps: &[
        ("verbosity 1\r\n", "OK\r\n"),
        ("verbosity 4294967295\r\n", "OK\r\n"),
        ("version\r\n", "VERSION 1.6.0\r\n"),
        ("shutdown\r\n", "ERROR: shutdown not enabled\r\n"),
        ("shutdown graceful\r\n", "ERROR: shutdown not enabled\r\n"),
        ("mn\r\n", "MN\r\n"),
        ("quit\r\nget k\r\n", ""),
    ],
}];

#[test]
fn values_are_stored_under_their_conditions() {
    run_in_every_way(STORES);
}

#[test]
fn values_are_read() {
    run_in_every_way(RETRIEVALS);
}

#[test]
fn numbers_are_counted() {
    run_in_every_way(NUMBERS);
}

#[test]
fn times_are_kept() {
    run_in_every_way(TIMES);
}

#[test]
fn the_server_answers_for_itself() {
    run_in_every_way(SERVER);
}
