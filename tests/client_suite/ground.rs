//! What a client may stand on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use larder::server::{Address, Running, Server, Settings};
use larder::{Cache, Config};
use larder_client::Client;

/// A cache, and the ways to it.
pub(crate) struct Ground {
    cache: Option<Cache>,
    servers: Vec<Running>,
    socket: Option<PathBuf>,
}

impl Ground {
    /// A cache in this process.
    pub(crate) fn embedded() -> Self {
        Self {
            cache: Some(cache()),
            servers: Vec::new(),
            socket: None,
        }
    }

    /// A server on a TCP port.
    pub(crate) fn tcp() -> Self {
        Self::servers(1)
    }

    /// Three servers on TCP ports.
    pub(crate) fn several() -> Self {
        Self::servers(3)
    }

    fn servers(count: usize) -> Self {
        let server = |_| serve(Address::Tcp(([127, 0, 0, 1], 0).into()));
        Self {
            cache: None,
            servers: (0..count).map(server).collect(),
            socket: None,
        }
    }

    /// A server on a Unix socket.
    pub(crate) fn unix() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("suite-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        Self {
            cache: None,
            servers: vec![serve(Address::Unix(path.clone()))],
            socket: Some(path),
        }
    }

    /// One more client, with connections of its own.
    pub(crate) async fn client(&self) -> Client {
        if let Some(cache) = &self.cache {
            return Client::embedded(cache.clone()).expect("a session is free");
        }
        let urls = self
            .servers
            .iter()
            .map(|server| match &server.addresses()[0] {
                Address::Tcp(address) => format!("larder://{address}"),
                Address::Unix(path) => format!("larder+unix://{}", path.display()),
            });
        let urls: Vec<_> = urls.collect();
        let client = match &urls[..] {
            [url] => Client::connect(url).await,
            _ => Client::connect_many(urls).await,
        };
        client.expect("the servers are there")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.servers.clear();
        if let Some(socket) = &self.socket {
            // The server may have removed it.
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn cache() -> Cache {
    let mut config = Config::new(64 << 20);
    config.sessions_max = 32;
    Cache::new(config).expect("64 MiB are enough")
}

fn serve(address: Address) -> Running {
    let settings = Settings {
        listen: vec![address],
        workers: 2,
        ..Settings::default()
    };
    Server::start(settings, cache()).expect("it starts")
}
