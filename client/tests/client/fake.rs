//! A server that says what a test tells it to.

use std::net::SocketAddr;

use larder_client::{Client, Config, Limits, Status};
use larder_protocol::{
    After, Decoded, ExpiryLeft, HEADER_BYTES, Opcode, Request, RequestFrame, ValueMeta,
    decode_hello, decode_request, encode_status, encode_value,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A listening socket on the loopback.
pub(crate) struct Fake {
    listener: TcpListener,
    pub(crate) limits: Limits,
}

/// The server's end of one connection.
pub(crate) struct Peer<S = TcpStream> {
    stream: S,
    input: Vec<u8>,
    limits: Limits,
}

/// A request as it came.
pub(crate) struct Asked {
    bytes: Vec<u8>,
    limits: Limits,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self {
            listener,
            limits: Limits::default(),
        }
    }

    /// Takes the place of one that was dropped.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .expect("the port is free again");
        Self {
            listener,
            limits: Limits::default(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound socket has an address")
    }

    pub(crate) fn url(&self) -> String {
        format!("larder://{}", self.address())
    }

    /// A client and the connection that it has made.
    pub(crate) async fn client(&self, config: Config) -> (Client, Peer) {
        let url = self.url();
        let (client, peer) = tokio::join!(Client::connect_with(&url, config), self.accept());
        (client.expect("the handshake succeeds"), peer)
    }

    /// The next connection, its handshake done.
    pub(crate) async fn accept(&self) -> Peer {
        let mut peer = self.accept_silently().await;
        peer.greet().await;
        peer
    }

    /// The next connection, which a request needs since the one that there is drains. A request that
    /// takes that one all the same is refused there.
    pub(crate) async fn accept_when_asked(&self, client: &Client, draining: &mut Peer) -> Peer {
        let serve = async {
            let accept = async {
                let mut peer = self.accept().await;
                let asked = peer.expect().await;
                peer.found(&asked, b"").await;
                peer
            };
            let refuse = async {
                while let Some(asked) = draining.next().await {
                    draining.failed(&asked, Status::DRAINING).await;
                }
                panic!("the connection ended with a request under way");
            };
            tokio::select! {
                peer = accept => peer,
                () = refuse => unreachable!(),
            }
        };
        let (found, peer) = tokio::join!(client.get("next"), serve);
        found.expect("answered");
        peer
    }

    /// The next connection, without a word to it.
    pub(crate) async fn accept_silently(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.expect("a client connects");
        Peer::new(stream, self.limits)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S, limits: Limits) -> Self {
        Self {
            stream,
            input: Vec::new(),
            limits,
        }
    }

    pub(crate) async fn greet(&mut self) {
        let mut output = Vec::new();
        loop {
            match decode_hello(&self.input) {
                Decoded::Frame { frame, consumed } => {
                    let reply = frame.hello.accept(frame.id, 0, self.limits, "fake 1");
                    reply.expect("versions agree").encode(frame.id, &mut output);
                    self.input.drain(..consumed);
                    break;
                }
                Decoded::Incomplete { .. } => assert!(self.read().await > 0, "no HELLO came"),
                Decoded::Refused(refusal) => panic!("no HELLO: {refusal}"),
            }
        }
        self.send(&output).await;
    }

    /// Reads once, and says how much came; 0 is the end of the connection.
    pub(crate) async fn read(&mut self) -> usize {
        self.input.reserve(64 * 1024);
        self.stream.read_buf(&mut self.input).await.unwrap_or(0)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the client is there");
    }

    /// How many whole requests have been read and not taken.
    pub(crate) fn requests_at_hand(&self) -> usize {
        let (mut count, mut rest) = (0, &self.input[..]);
        while let Decoded::Frame { consumed, .. } = decode_request(rest, &self.limits) {
            (count, rest) = (count + 1, &rest[consumed..]);
        }
        count
    }

    /// The next request, or nothing at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Asked> {
        loop {
            match decode_request(&self.input, &self.limits) {
                Decoded::Frame { consumed, .. } => {
                    let bytes = self.input.drain(..consumed).collect();
                    return Some(Asked {
                        bytes,
                        limits: self.limits,
                    });
                }
                Decoded::Incomplete { .. } => {
                    if self.read().await == 0 {
                        return None;
                    }
                }
                Decoded::Refused(refusal) => {
                    panic!("the client sent what it should not: {refusal}")
                }
            }
        }
    }

    /// The next request that is in order; refuses those before it that are not, as a server does.
    pub(crate) async fn next_or_refused(&mut self) -> Option<Asked> {
        loop {
            match decode_request(&self.input, &self.limits) {
                Decoded::Refused(refusal) => {
                    let After::Skip { frame_bytes } = refusal.after else {
                        panic!("the client sent what it should not: {refusal}")
                    };
                    while (self.input.len() as u64) < frame_bytes {
                        assert!(self.read().await > 0, "the rest of it comes");
                    }
                    self.input.drain(..frame_bytes as usize);
                    let mut output = Vec::new();
                    refusal.encode(&mut output);
                    self.send(&output).await;
                }
                Decoded::Incomplete { .. } => {
                    if self.read().await == 0 {
                        return None;
                    }
                }
                Decoded::Frame { .. } => return self.next().await,
            }
        }
    }

    pub(crate) async fn expect(&mut self) -> Asked {
        self.next().await.expect("a request comes")
    }

    /// Waits until the client closes.
    pub(crate) async fn expect_end(&mut self) {
        assert!(self.next().await.is_none(), "the connection goes on");
    }

    /// Answers a GET with a value.
    pub(crate) async fn found(&mut self, asked: &Asked, value: &[u8]) {
        let mut output = Vec::new();
        let meta = ValueMeta {
            client_flags: 0,
            version: 1,
            expiry_left: ExpiryLeft::NotAsked,
        };
        encode_value(&mut output, Opcode::Get, asked.frame().id, &meta, value);
        self.send(&output).await;
    }

    /// Answers with a status other than OK.
    pub(crate) async fn failed(&mut self, asked: &Asked, status: Status) {
        let mut output = Vec::new();
        let frame = asked.frame();
        encode_status(
            &mut output,
            frame.request.opcode(),
            frame.id,
            status,
            "as the test wants",
        );
        self.send(&output).await;
    }
}

impl Asked {
    pub(crate) fn frame(&self) -> RequestFrame<'_> {
        match decode_request(&self.bytes, &self.limits) {
            Decoded::Frame { frame, .. } => frame,
            other => panic!("decoded once and now {other:?}"),
        }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        assert!(self.bytes.len() >= HEADER_BYTES);
        self.frame().request
    }

    /// The key of a GET.
    pub(crate) fn key(&self) -> Vec<u8> {
        match self.request() {
            Request::Get { key, .. } => key.to_vec(),
            other => panic!("not a GET: {other:?}"),
        }
    }
}
