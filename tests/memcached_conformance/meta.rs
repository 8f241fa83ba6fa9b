//! The meta commands, and their flags.

use crate::script::{Script, run_in_every_way};

const GETS: &[Script] = &[
    Script {
        name: "mg answers with what its flags ask for, in their order",
        steps: &[
            ("mg k v\r\n", "EN\r\n"),
            ("set k 17 0 5\r\nhello\r\n", "STORED\r\n"),
            ("mg k\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 5\r\nhello\r\n"),
            ("mg k s v t\r\n", "VA 5 s5 t-1\r\nhello\r\n"),
            ("mg k f\r\n", "HD f17\r\n"),
            ("mg k t f k c\r\n", "HD t-1 f17 kk c{cas}\r\n"),
            ("gets k\r\n", "VALUE k 17 5 {cas}\r\nhello\r\nEND\r\n"),
            ("mg k Oabc k v\r\n", "VA 5 Oabc kk\r\nhello\r\n"),
            ("mg k O\r\n", "HD O\r\n"),
            ("mg k Lpath/ Phint s\r\n", "HD s5\r\n"),
            // Flags of other commands are read, and change nothing.
            ("mg k F1 MS J1 D1 s\r\n", "HD s5\r\n"),
            ("mg missing s t c k O77\r\n", "EN kmissing O77\r\n"),
        ],
    },
    Script {
        name: "mg is quiet about what is not there",
        steps: &[
            ("mg k v q\r\nmn\r\n", "MN\r\n"),
            ("mg k v q O5 k\r\nmn\r\n", "MN\r\n"),
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("mg k v q\r\nmn\r\n", "VA 1\r\na\r\nMN\r\n"),
            ("mg k q\r\nmn\r\n", "HD\r\nMN\r\n"),
            ("mg k q y\r\nmn\r\n", "CLIENT_ERROR invalid flag\r\nMN\r\n"),
        ],
    },
    Script {
        name: "mg changes when an item expires",
        steps: &[
            ("mg k T30\r\n", "EN\r\n"),
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("mg k T30 t v\r\n", "VA 1 t30\r\na\r\n"),
            ("mg k t\r\n", "HD t30\r\n"),
            ("mg k T0 t\r\n", "HD t-1\r\n"),
            ("mg k T-1 v\r\n", "VA 1\r\na\r\n"),
            ("mg k v\r\n", "EN\r\n"),
        ],
    },
    Script {
        name: "the flags of mg take effect in their order",
        steps: &[
            ("set k 0 20 1\r\na\r\n", "STORED\r\n"),
            ("mg k t T100\r\n", "HD t20\r\n"),
            ("mg k T90 t N5\r\n", "HD t90\r\n"),
            ("mg k T90 R30\r\n", "HD\r\n"),
            ("mg k R100 T40\r\n", "HD W\r\n"),
            ("mg k T10 R30 t\r\n", "HD t10 Z\r\n"),
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("mg k t T10\r\n", "HD t-1\r\n"),
            ("mg new t N50\r\n", "HD t-1 W\r\n"),
            ("mg new t\r\n", "HD t50 Z\r\n"),
            ("mg newer N50 T100\r\n", "HD W\r\n"),
            ("mg newer t\r\n", "HD t100 Z\r\n"),
            ("mg newest T100 N50 t\r\n", "HD t50 W\r\n"),
            ("mg newest T0 t\r\n", "HD t-1 Z\r\n"),
            ("ma n N50 T100\r\n", "HD\r\n"),
            ("mg n t\r\n", "HD t100\r\n"),
        ],
    },
    Script {
        name: "mg leaves out a value that the client has",
        steps: &[
            ("ms k 2 c\r\nva\r\n", "HD c{cas}\r\n"),
            ("mg k C{cas} v c\r\n", "HD c{cas}\r\n"),
            ("mg k C1 v c\r\n", "VA 2 c{cas}\r\nva\r\n"),
        ],
    },
    Script {
        name: "me tells what is known of an item",
        steps: &[
            ("me k\r\n", "EN\r\n"),
            ("ms k 1 c\r\na\r\n", "HD c{cas}\r\n"),
            (
                "me k\r\n",
                "ME k exp=-1 cas={cas} fetch=no cls=1 size={}\r\n",
            ),
            ("ms aGVsbG8= 1 b T60 c\r\na\r\n", "HD c{other}\r\n"),
            (
                "me aGVsbG8= b\r\n",
                "ME aGVsbG8= exp={} cas={other} fetch=no cls=1 size={}\r\n",
            ),
            ("me {k*251}\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("me _ b\r\n", "CLIENT_ERROR bad command line format\r\n"),
        ],
    },
    Script {
        name: "keys may come in base64",
        steps: &[
            ("ms aGVsbG8= 2 b k\r\nhi\r\n", "HD kaGVsbG8= b\r\n"),
            ("get hello\r\n", "VALUE hello 0 2\r\nhi\r\nEND\r\n"),
            ("mg aGVsbG8= b k v\r\n", "VA 2 kaGVsbG8= b\r\nhi\r\n"),
            ("mg hello k v\r\n", "VA 2 khello\r\nhi\r\n"),
            ("mg aGVsbG8= k v\r\n", "EN kaGVsbG8=\r\n"),
            // A key with spaces and a line end in it.
            ("ms IGEgCiA= 1 b\r\nx\r\n", "HD\r\n"),
            ("mg IGEgCiA= b k v\r\n", "VA 1 kIGEgCiA= b\r\nx\r\n"),
            ("md IGEgCiA= b k\r\n", "HD kIGEgCiA= b\r\n"),
            ("ma IGEgCiA= b N0 v k\r\n", "VA 1 kIGEgCiA= b\r\n0\r\n"),
            ("mg a b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("mg aGVsbG8 b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("mg ==== b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("ms a 1 b\r\nx\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("md a b\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
        ],
    },
];

const SETS: &[Script] = &[
    Script {
        name: "ms stores with flags and a time",
        steps: &[
            ("ms k 5\r\nhello\r\n", "HD\r\n"),
            ("ms k 5 F31 T100\r\nhello\r\n", "HD\r\n"),
            ("mg k f t v\r\n", "VA 5 f31 t100\r\nhello\r\n"),
            ("ms k 1 k Oo1 s c\r\na\r\n", "HD kk Oo1 s1 c{cas}\r\n"),
            ("mg k f t c\r\n", "HD f0 t-1 c{cas}\r\n"),
            ("ms k 0 q\r\n\r\nmn\r\n", "MN\r\n"),
            ("mg k v\r\n", "VA 0\r\n\r\n"),
            ("ms k 1 T-1\r\na\r\nmg k\r\n", "HD\r\nEN\r\n"),
        ],
    },
    Script {
        name: "ms has modes",
        steps: &[
            ("ms k 1 MR\r\na\r\n", "NS\r\n"),
            ("ms k 1 MA k\r\na\r\n", "NS kk\r\n"),
            ("ms k 1 MP q\r\na\r\n", "NS\r\n"),
            ("ms k 1 ME\r\nb\r\n", "HD\r\n"),
            ("ms k 1 ME O9\r\nb\r\n", "NS O9\r\n"),
            ("ms k 2 MA s\r\ncd\r\n", "HD s3\r\n"),
            ("ms k 1 MP s\r\na\r\n", "HD s4\r\n"),
            ("mg k v\r\n", "VA 4\r\nabcd\r\n"),
            ("ms k 1 MR\r\ne\r\n", "HD\r\n"),
            ("ms k 1 MS\r\nf\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 1\r\nf\r\n"),
            (
                "ms k 1 M\u{0}\r\ng\r\n",
                "CLIENT_ERROR invalid mode for ms M token\r\n",
            ),
            (
                "ms k 1 MZ\r\ng\r\n",
                "CLIENT_ERROR invalid mode for ms M token\r\n",
            ),
            (
                "ms k 1 M\r\ng\r\n",
                "CLIENT_ERROR incorrect length for M token\r\n",
            ),
            (
                "ms k 1 MAA\r\ng\r\n",
                "CLIENT_ERROR incorrect length for M token\r\n",
            ),
        ],
    },
    Script {
        name: "what is added to is made where it is wanted",
        steps: &[
            ("ms k 2 MA N30\r\nmo\r\n", "HD\r\n"),
            ("mg k v t\r\n", "VA 2 t30\r\nmo\r\n"),
            ("ms k 2 MA N90 s\r\nko\r\n", "HD s4\r\n"),
            ("mg k v t\r\n", "VA 4 t30\r\nmoko\r\n"),
            ("ms j 2 MP N0 F5 s\r\nab\r\n", "HD s2\r\n"),
            ("mg j v t f\r\n", "VA 2 t-1 f5\r\nab\r\n"),
        ],
    },
    Script {
        name: "ms may depend on a version",
        steps: &[
            ("ms k 1 C5\r\na\r\n", "NF\r\n"),
            ("ms k 1 c\r\na\r\n", "HD c{one}\r\n"),
            ("ms k 1 C0 c\r\nb\r\n", "EX c0\r\n"),
            ("ms k 1 C{one} c\r\nb\r\n", "HD c{two}\r\n"),
            ("ms k 1 C{one}\r\nc\r\n", "EX\r\n"),
            ("ms k 1 MR C{two} c\r\nc\r\n", "HD c{three}\r\n"),
            ("ms k 1 MA C{two}\r\nd\r\n", "EX\r\n"),
            ("ms k 1 MA C{three} s c\r\nd\r\n", "HD s2 c{four}\r\n"),
            ("ms k 1 MP C{four}\r\nb\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 3\r\nbcd\r\n"),
            ("ms x 1 MA C5\r\na\r\n", "NS\r\n"),
            ("ms k 1 ME C1\r\na\r\n", "NS\r\n"),
        ],
    },
];

const OTHERS: &[Script] = &[
    Script {
        name: "md deletes, and may depend on a version",
        steps: &[
            ("md k\r\n", "NF\r\n"),
            ("md k q\r\nmn\r\n", "NF\r\nMN\r\n"),
            ("ms k 1 c\r\na\r\n", "HD c{cas}\r\n"),
            ("md k C1 O3\r\n", "EX O3\r\n"),
            ("md k C0\r\n", "EX\r\n"),
            ("md k C{cas} k O3\r\n", "HD kk O3\r\n"),
            ("mg k\r\n", "EN\r\n"),
            ("ms k 1\r\na\r\nmd k q\r\nmn\r\n", "HD\r\nMN\r\n"),
        ],
    },
    Script {
        name: "ma counts up and down",
        steps: &[
            ("ma n\r\n", "NF\r\n"),
            ("ma n q k O2\r\n", "NF kn O2\r\n"),
            ("set n 7 0 2\r\n10\r\n", "STORED\r\n"),
            ("ma n\r\n", "HD\r\n"),
            ("ma n v\r\n", "VA 2\r\n12\r\n"),
            ("ma n v D30 MI\r\n", "VA 2\r\n42\r\n"),
            ("ma n v D2 MD\r\n", "VA 2\r\n40\r\n"),
            ("ma n v D1 M+\r\n", "VA 2\r\n41\r\n"),
            ("ma n v D50 M- Oz k\r\n", "VA 1 Oz kn\r\n0\r\n"),
            ("ma n q\r\nmn\r\n", "MN\r\n"),
            ("ma n v D18446744073709551615\r\n", "VA 1\r\n0\r\n"),
            ("mg n f v\r\n", "VA 1 f7\r\n0\r\n"),
            (
                "ma n MX\r\n",
                "CLIENT_ERROR invalid mode for ma M token\r\n",
            ),
            ("ma n Dx\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
            (
                "ma n N0 Jx\r\n",
                "CLIENT_ERROR invalid or duplicate flag\r\n",
            ),
            (
                "set n 0 0 1\r\nx\r\nma n q\r\n",
                "STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
        ],
    },
    Script {
        name: "ma makes a counter where one is wanted",
        steps: &[
            ("ma n N0\r\n", "HD\r\n"),
            ("mg n v t\r\n", "VA 1 t-1\r\n0\r\n"),
            ("ma m N90 J13 v t\r\n", "VA 2 t90\r\n13\r\n"),
            ("ma m N30 J13 v t\r\n", "VA 2 t90\r\n14\r\n"),
            // Flags take effect in their order.
            ("ma p t N90 v\r\n", "VA 1 t-1\r\n0\r\n"),
            ("ma p t T60\r\n", "HD t90\r\n"),
            ("ma p T30 t\r\n", "HD t30\r\n"),
            (
                "ma o N0 J18446744073709551615 v q\r\nma o v\r\n",
                "VA 1\r\n0\r\n",
            ),
        ],
    },
    Script {
        name: "ma may depend on a version and change a time",
        steps: &[
            ("ma n N0 c\r\n", "HD c{one}\r\n"),
            ("ma n C1 v\r\n", "EX\r\n"),
            ("ma n C{one} v c\r\n", "VA 1 c{two}\r\n1\r\n"),
            ("ma n C{one} q\r\n", "EX\r\n"),
            ("ma n C0 v\r\n", "VA 1\r\n2\r\n"),
            ("ma n T60 v t\r\n", "VA 1 t60\r\n3\r\n"),
            ("mg n t v\r\n", "VA 1 t60\r\n3\r\n"),
            ("ma n T0 t\r\n", "HD t-1\r\n"),
            ("ma n T-1\r\n", "HD\r\n"),
            ("ma n\r\n", "NF\r\n"),
        ],
    },
];

const FLAGS: &[Script] = &[
    Script {
        name: "flags are known, come once, and have tokens that are right",
        steps: &[
            ("mg k v v\r\n", "CLIENT_ERROR duplicate flag\r\n"),
            ("mg k O1 O2\r\n", "CLIENT_ERROR duplicate flag\r\n"),
            ("mg k \u{e9}\r\n", "CLIENT_ERROR duplicate flag\r\n"),
            ("mg k y\r\n", "CLIENT_ERROR invalid flag\r\n"),
            (
                "mg k T\r\n",
                "CLIENT_ERROR bad token in command line format\r\n",
            ),
            (
                "mg k Tx\r\n",
                "CLIENT_ERROR bad token in command line format\r\n",
            ),
            (
                "mg k C-1\r\n",
                "CLIENT_ERROR bad token in command line format\r\n",
            ),
            (
                "mg k Jx\r\n",
                "CLIENT_ERROR invalid numeric initial value\r\n",
            ),
            (
                "mg k Dx\r\n",
                "CLIENT_ERROR invalid numeric delta value\r\n",
            ),
            (
                "ms k 1 Fx\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "ms k 1 F4294967296\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            ("md k y\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
            ("ma k v v\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
            ("mg k O{o*31}\r\n", "EN O{o*31}\r\n"),
            ("mg k O{o*32}\r\n", "CLIENT_ERROR opaque token too long\r\n"),
            (
                "ms k 1 O{o*32}\r\na\r\n",
                "CLIENT_ERROR opaque token too long\r\n",
            ),
            ("md k O{o*32}\r\n", "CLIENT_ERROR opaque token too long\r\n"),
            ("ma k O{o*32}\r\n", "CLIENT_ERROR opaque token too long\r\n"),
            (
                "mg k b c f h k l q s t u v O P L I x\r\n",
                "CLIENT_ERROR error decoding key\r\n",
            ),
            (
                "mg k b c f h k l q s t u v O P L I x y z\r\n",
                "CLIENT_ERROR options flags are too long\r\n",
            ),
            (
                "ms k 1 b c f h k l q s t u v O P L I x y\r\na\r\n",
                "CLIENT_ERROR options flags too long\r\n",
            ),
        ],
    },
    Script {
        name: "a client chooses the version of what it stores",
        steps: &[
            ("ms k 1 E5 c\r\na\r\n", "HD c5\r\n"),
            ("mg k v c\r\n", "VA 1 c5\r\na\r\n"),
            ("gets k\r\n", "VALUE k 0 1 5\r\na\r\nEND\r\n"),
            ("mg k E6 T30 c\r\n", "HD c5\r\n"),
            ("ms k 1 C4 E7\r\nb\r\n", "EX\r\n"),
            ("ms k 1 C5 E3 F9 T0 c\r\nb\r\n", "HD c3\r\n"),
            ("cas k 0 0 1 5\r\nc\r\n", "EXISTS\r\n"),
            (
                "ms k 2 MA E18446744073709551615 c\r\ncd\r\n",
                "HD c18446744073709551615\r\n",
            ),
            ("mg k v f c\r\n", "VA 3 f9 c18446744073709551615\r\nbcd\r\n"),
            ("md k C5\r\n", "EX\r\n"),
            ("cas k 0 0 1 18446744073709551615\r\nc\r\n", "STORED\r\n"),
            ("ms k 1 c\r\na\r\n", "HD c{cas}\r\n"),
            ("mg k c\r\n", "HD c{cas}\r\n"),
            ("ms k 1 ME E5\r\na\r\n", "NS\r\n"),
            ("mg k c\r\n", "HD c{cas}\r\n"),
            (
                "ms k 1 E-5\r\na\r\n",
                "CLIENT_ERROR bad token in command line format\r\n",
            ),
            (
                "ms k 1 E\r\na\r\n",
                "CLIENT_ERROR bad token in command line format\r\n",
            ),
            ("ma k E5x\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
            ("md k E5\r\n", "HD\r\n"),
        ],
    },
    Script {
        name: "a client chooses the version of a counter, until it is counted without",
        steps: &[
            ("ma n N0 J41 E7 c v\r\n", "VA 2 c7\r\n41\r\n"),
            ("ma n E9 c v\r\n", "VA 2 c9\r\n42\r\n"),
            ("ma n C7 E10\r\n", "EX\r\n"),
            ("ma n C9 E10 c v\r\n", "VA 2 c10\r\n43\r\n"),
            ("mg n v c\r\n", "VA 2 c10\r\n43\r\n"),
            ("ma n c v\r\n", "VA 2 c{cas}\r\n44\r\n"),
            ("incr n 1\r\n", "45\r\n"),
            ("ma n E1 D0 c v\r\n", "VA 2 c1\r\n45\r\n"),
            ("md n I E8\r\n", "HD\r\n"),
            ("mg n v c\r\n", "VA 2 c8 X W\r\n45\r\n"),
        ],
    },
    Script {
        name: "a client chooses the version of what is made anew",
        steps: &[
            ("mg k N30 E5 c\r\n", "HD c5 W\r\n"),
            ("mg k N30 E6 c\r\n", "HD c5 Z\r\n"),
            ("ms k 1 C4 I E9\r\na\r\n", "HD\r\n"),
            ("mg k v c\r\n", "VA 1 c9 Z X\r\na\r\n"),
            ("ms k 1 C10 I E11\r\nb\r\n", "EX\r\n"),
            ("ms k 1 C9 E12\r\nb\r\n", "HD\r\n"),
            ("mg k v c\r\n", "VA 1 c12\r\nb\r\n"),
            ("md k I C12 E13 T30\r\n", "HD\r\n"),
            ("mg k v c\r\n", "VA 1 c13 X W\r\nb\r\n"),
            ("md k x E14\r\n", "HD\r\n"),
            ("mg k s c\r\n", "HD s0 c14\r\n"),
        ],
    },
    Script {
        name: "a flush takes items of any version, and large ones have them too",
        steps: &[
            ("ms k 1 E18446744073709551615\r\na\r\n", "HD\r\n"),
            ("ms l 20000 E77 c\r\n{x*20000}\r\n", "HD c77\r\n"),
            ("mg l s c\r\n", "HD s20000 c77\r\n"),
            ("ms l 1 MA E78 c\r\ny\r\n", "HD c78\r\n"),
            ("mg l s c\r\n", "HD s20001 c78\r\n"),
            ("flush_all\r\n", "OK\r\n"),
            ("mg k\r\nmg l\r\n", "EN\r\nEN\r\n"),
            ("ms k 1 E1\r\na\r\n", "HD\r\n"),
            ("mg k v c\r\n", "VA 1 c1\r\na\r\n"),
        ],
    },
];

const LEASES: &[Script] = &[
    Script {
        name: "a large value is left out, and comes with its marks, as others do",
        steps: &[
            ("ms k 20000 c\r\n{x*20000}\r\n", "HD c{cas}\r\n"),
            ("mg k v C{cas} s\r\nmn\r\n", "HD s20000\r\nMN\r\n"),
            ("mg k v s\r\n", "VA 20000 s20000\r\n{x*20000}\r\n"),
            ("mg k s\r\nmn\r\n", "HD s20000\r\nMN\r\n"),
            (
                "md k I\r\nmg k v\r\nmn\r\n",
                "HD\r\nVA 20000 X W\r\n{x*20000}\r\nMN\r\n",
            ),
        ],
    },
    Script {
        name: "of those that miss with N one wins, and the others wait",
        steps: &[
            ("mg k N30 v t c\r\n", "VA 0 t30 c{cas} W\r\n\r\n"),
            ("mg k N30 v\r\n", "VA 0 Z\r\n\r\n"),
            ("mg k v\r\n", "VA 0 Z\r\n\r\n"),
            ("mg k s k Oq\r\n", "HD s0 kk Oq Z\r\n"),
            // An item for all others too.
            ("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n"),
            ("add k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("ms k 5 C{cas}\r\nhello\r\n", "HD\r\n"),
            ("mg k N30 v\r\n", "VA 5\r\nhello\r\n"),
            ("md k\r\nmg k N30 q v\r\n", "HD\r\nVA 0 W\r\n\r\n"),
        ],
    },
    Script {
        name: "R has one client make an item anew before it expires",
        steps: &[
            ("mg k R30 v\r\n", "EN\r\n"),
            ("ms k 1 T100\r\na\r\n", "HD\r\n"),
            ("mg k R30 v\r\n", "VA 1\r\na\r\n"),
            ("mg k R0 v\r\n", "VA 1\r\na\r\n"),
            ("mg k R110 v\r\n", "VA 1 W\r\na\r\n"),
            ("mg k R110 v\r\n", "VA 1 Z\r\na\r\n"),
            ("mg k v\r\n", "VA 1 Z\r\na\r\n"),
            ("ms k 1 T100\r\nb\r\n", "HD\r\n"),
            ("mg k v t\r\n", "VA 1 t100\r\nb\r\n"),
            // What never expires is never due.
            ("ms k 1\r\nc\r\n", "HD\r\n"),
            ("mg k R2592000 v\r\n", "VA 1\r\nc\r\n"),
        ],
    },
    Script {
        name: "md with I marks an item stale, and the next client is to make it anew",
        steps: &[
            ("md k I\r\n", "NF\r\n"),
            ("ms k 1 c F5\r\na\r\n", "HD c{old}\r\n"),
            ("md k I C1 k\r\n", "EX kk\r\n"),
            ("md k I T30 C{old} k Oq\r\n", "HD kk Oq\r\n"),
            ("mg k v t f c\r\n", "VA 1 t30 f5 c{new} X W\r\na\r\n"),
            ("mg k v\r\n", "VA 1 Z X\r\na\r\n"),
            ("ms k 1 C{old}\r\nb\r\n", "EX\r\n"),
            ("md k I\r\nmg k\r\n", "HD\r\nHD X W\r\n"),
            ("ms k 1 C{new}\r\nb\r\n", "EX\r\n"),
            ("ms k 1\r\nb\r\nmg k v\r\n", "HD\r\nVA 1\r\nb\r\n"),
            ("md k I q\r\nmn\r\n", "MN\r\n"),
            ("get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n"),
        ],
    },
    Script {
        name: "md with x drops the value and the flags, and keeps the item",
        steps: &[
            ("ms k 5 F7 T100\r\nhello\r\n", "HD\r\n"),
            ("md k x\r\n", "HD\r\n"),
            ("mg k v f s\r\n", "VA 0 f0 s0\r\n\r\n"),
            ("ms k 5\r\nhello\r\n", "HD\r\n"),
            ("md k x I\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 0 X W\r\n\r\n"),
            ("md missing x\r\n", "NF\r\n"),
        ],
    },
    Script {
        name: "ms with I stores what is older than the item, as stale",
        steps: &[
            ("ms k 1 c\r\na\r\n", "HD c{old}\r\n"),
            ("ms k 1 c\r\nb\r\n", "HD c{new}\r\n"),
            ("ms k 1 C{old} I\r\nc\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 1 X W\r\nc\r\n"),
            ("ms k 1 c\r\nd\r\n", "HD c{last}\r\n"),
            ("ms k 1 C{last} I\r\ne\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 1\r\ne\r\n"),
            ("ms missing 1 C5 I\r\ne\r\n", "NF\r\n"),
        ],
    },
    Script {
        name: "h tells whether an item was read before",
        steps: &[
            ("ms k 1\r\na\r\n", "HD\r\n"),
            ("mg k h u\r\n", "HD h0\r\n"),
            ("mg k h v\r\n", "VA 1 h0\r\na\r\n"),
            ("mg k h\r\n", "HD h1\r\n"),
            (
                "set k 0 0 1\r\nb\r\nget k\r\n",
                "STORED\r\nVALUE k 0 1\r\nb\r\nEND\r\n",
            ),
            ("mg k h\r\n", "HD h1\r\n"),
            // Not known where the server keeps no such times.
            ("mg k l s\r\n", "HD s1\r\n"),
        ],
    },
];

#[test]
fn items_are_read() {
    run_in_every_way(GETS);
}

#[test]
fn items_are_stored() {
    run_in_every_way(SETS);
}

#[test]
fn items_are_deleted_and_counted() {
    run_in_every_way(OTHERS);
}

#[test]
fn flags_are_checked() {
    run_in_every_way(FLAGS);
}

#[test]
fn one_client_of_many_makes_an_item() {
    run_in_every_way(LEASES);
}
