//! What is refused, in memcached's words, and how the input goes on.

use crate::script::{Script, run_in_every_way};

const COMMANDS: &[Script] = &[
    Script {
        name: "what is no command is an error, and the next line is a command again",
        steps: &[
            ("\r\n", "ERROR\r\n"),
            ("\n", "ERROR\r\n"),
            ("x\r\n", "ERROR\r\n"),
            ("nothing of the kind\r\n", "ERROR\r\n"),
            ("GET k\r\n", "ERROR\r\n"),
            ("mx k\r\n", "ERROR\r\n"),
            ("slabs automove 0\r\n", "ERROR\r\n"),
            ("lru_crawler crawl all\r\n", "ERROR\r\n"),
            ("watch fetchers\r\n", "ERROR\r\n"),
            ("cache_memlimit 100\r\n", "ERROR\r\n"),
            ("get k\r\n", "END\r\n"),
        ],
    },
    Script {
        name: "a command has as many words as it has",
        steps: &[
            ("get\r\n", "ERROR\r\n"),
            ("get \r\n", "ERROR\r\n"),
            ("gets\r\n", "ERROR\r\n"),
            ("gat 0\r\n", "ERROR\r\n"),
            ("set k 0 0\r\n", "ERROR\r\n"),
            ("set k 0 0 1 noreply more\r\n", "ERROR\r\n"),
            ("cas k 0 0 1\r\n", "ERROR\r\n"),
            ("incr k\r\n", "ERROR\r\n"),
            ("decr k 1 noreply more\r\n", "ERROR\r\n"),
            ("touch k\r\n", "ERROR\r\n"),
            ("delete\r\n", "ERROR\r\n"),
            ("delete a b c d\r\n", "ERROR\r\n"),
            ("flush_all 1 noreply more\r\n", "ERROR\r\n"),
            ("verbosity\r\n", "ERROR\r\n"),
            ("mg\r\n", "ERROR\r\n"),
            ("ms\r\n", "ERROR\r\n"),
            ("md\r\n", "ERROR\r\n"),
            ("ma\r\n", "ERROR\r\n"),
            ("me\r\n", "CLIENT_ERROR bad command line format\r\n"),
        ],
    },
];

const ARGUMENTS: &[Script] = &[
    Script {
        name: "numbers are digits and within their bounds",
        steps: &[
            (
                "set k x 0 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k -1 0 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 4294967296 0 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 0 x 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 0 2147483648 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 0 -2147483649 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "cas k 0 0 1 x\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "cas k 0 0 1 -1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "cas k 0 0 1 18446744073709551616\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "incr k x\r\n",
                "CLIENT_ERROR invalid numeric delta argument\r\n",
            ),
            (
                "incr k -1\r\n",
                "CLIENT_ERROR invalid numeric delta argument\r\n",
            ),
            (
                "decr k 18446744073709551616\r\n",
                "CLIENT_ERROR invalid numeric delta argument\r\n",
            ),
            ("touch k x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            (
                "touch k 1x\r\n",
                "CLIENT_ERROR invalid exptime argument\r\n",
            ),
            ("gat x k\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            (
                "gats 1.5 k j\r\n",
                "CLIENT_ERROR invalid exptime argument\r\n",
            ),
            (
                "flush_all x\r\n",
                "CLIENT_ERROR invalid exptime argument\r\n",
            ),
            (
                "verbosity x\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            ("get k\r\n", "END\r\n"),
        ],
    },
    Script {
        name: "where the length of a value is not known, what follows are commands",
        steps: &[
            (
                "set k 0 0 x\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 0 0 -1\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 0 0 2147483646\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set k 0 0 99999999999\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            ("ms k x\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("ms k\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("ms k -1\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("get k\r\n", "END\r\n"),
        ],
    },
    Script {
        name: "who wants no answer is not told of mistakes either",
        steps: &[
            ("set k x 0 1 noreply\r\na\r\nmn\r\n", "MN\r\n"),
            ("set k 0 0 1 noreply\r\nab\r\n", "ERROR\r\n"),
            ("incr k x noreply\r\nmn\r\n", "MN\r\n"),
            ("touch k x noreply\r\nmn\r\n", "MN\r\n"),
            ("delete k 5 noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all x noreply\r\nmn\r\n", "MN\r\n"),
            ("verbosity noreply\r\nmn\r\n", "MN\r\n"),
        ],
    },
];

const CHUNKS: &[Script] = &[
    Script {
        name: "a value ends where it was said to, and so does what is skipped",
        steps: &[
            // Of what is too much, the first two bytes belong to the value.
            (
                "set k 0 0 4\r\n1234567\r\n",
                "CLIENT_ERROR bad data chunk\r\nERROR\r\n",
            ),
            (
                "set k 0 0 4\r\n12\r\n\n\n",
                "CLIENT_ERROR bad data chunk\r\n",
            ),
            ("set k 0 0 4\r\n1234\n\n", "CLIENT_ERROR bad data chunk\r\n"),
            ("ms k 2 q\r\nabcd", "CLIENT_ERROR bad data chunk\r\n"),
            ("set k 0 0 4\r\n1234\r\n", "STORED\r\n"),
            ("append k 0 0 1\r\n56\r", "CLIENT_ERROR bad data chunk\r\n"),
            ("\nget k\r\n", "ERROR\r\nVALUE k 0 4\r\n1234\r\nEND\r\n"),
        ],
    },
    Script {
        name: "the value of a store that is refused is not taken for commands",
        steps: &[
            (
                "set k x 0 9\r\nflush_all\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "set {k*251} 0 0 9\r\nflush_all\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "ms {k*251} 9\r\nflush_all\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            ("ms k 9 y\r\nflush_all\r\n", "CLIENT_ERROR invalid flag\r\n"),
        ],
    },
];

#[test]
fn commands_are_told_from_what_is_none() {
    run_in_every_way(COMMANDS);
}

#[test]
fn arguments_are_checked() {
    run_in_every_way(ARGUMENTS);
}

#[test]
fn values_have_their_ends() {
    run_in_every_way(CHUNKS);
}
