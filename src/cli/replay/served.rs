//! A replay against a server, over one connection.
//!
//! Requests go out in *rounds*: as many as follow each other with different keys. The reads of a
//! round share a frame, and so do its sets with those that follow a miss. Since no key is in a round
//! twice, each key's requests are carried out in their order.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use larder_client::{Address, Client, Config, Error, Limits, SetItem, Status};

use super::batch::Batch;
use super::figures::{self, Figures};
use super::in_process::Outcome;
use super::request::{Operation, Request};
use super::tally::{Found, Tally};
use crate::cli::ending::Failure;

/// LIMIT: requests of a round; more gain nothing.
const ROUND: usize = 256;
/// LIMIT: bytes of the values of a round, so that its answers stay few.
const ROUND_BYTES: u64 = 1 << 20;

/// Runs the requests against the server.
pub(super) fn replay(
    address: &Address,
    batches: impl Iterator<Item = Result<Batch, Failure>>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(address).await?;
        let before = connection.figures().await?;
        for batch in batches {
            for round in rounds(&batch?.requests) {
                connection.execute(round).await?;
            }
        }
        let figures = connection.figures().await?.since(&before);
        Ok(Outcome {
            setting: None,
            tally: connection.tally,
            figures,
        })
    })
}

/// Cuts requests where a key would be in a round twice.
fn rounds(mut requests: &[Request]) -> impl Iterator<Item = &[Request]> {
    std::iter::from_fn(move || {
        let mut keys = HashSet::new();
        let mut bytes = 0;
        let mut length = 0;
        for request in requests.iter().take(ROUND) {
            bytes += u64::from(request.size_bytes);
            if length > 0 && bytes > ROUND_BYTES || !keys.insert(&request.key) {
                break;
            }
            length += 1;
        }
        let (round, rest) = requests.split_at(length);
        requests = rest;
        (length > 0).then_some(round)
    })
}

struct Connection {
    client: Client,
    limits: Limits,
    /// Zeros that values are the front of.
    zeros: Bytes,
    tally: Tally,
}

impl Connection {
    async fn open(address: &Address) -> Result<Self, Failure> {
        let config = Config {
            name: "larder replay".to_owned(),
            ..Config::default()
        };
        let client = Client::connect_with(&address.to_string(), config).await?;
        let limits = client.server().await?.limits;
        Ok(Self {
            client,
            limits,
            zeros: Bytes::new(),
            tally: Tally::default(),
        })
    }

    async fn figures(&self) -> Result<Figures, Failure> {
        Ok(Figures::parse(self.client.stats(figures::GROUP).await?))
    }

    /// Carries a round out.
    async fn execute(&mut self, round: &[Request]) -> Result<(), Failure> {
        let mut reads = Vec::new();
        let mut sets = Vec::new();
        for request in round {
            self.tally.begin(request);
            match request.operation {
                Operation::Get => reads.push(request),
                Operation::Set | Operation::Overwrite => sets.push(request),
                _ => self.execute_alone(request).await?,
            }
        }
        if !reads.is_empty() {
            let keys = reads.iter().map(|request| request.key.bytes());
            let items = self.client.get_many(keys).await?;
            for (request, item) in reads.into_iter().zip(items) {
                if item.is_some() {
                    self.tally.read(request, Found::Hit);
                } else {
                    self.tally.read(request, Found::Miss);
                    sets.push(request);
                }
            }
        }
        self.set(sets).await
    }

    async fn set(&mut self, requests: Vec<&Request>) -> Result<(), Failure> {
        let mut sent = Vec::new();
        let mut items = Vec::new();
        for request in requests {
            if let Some(value) = self.value(request) {
                sent.push((request, value.len()));
                items.push(SetItem {
                    expire_in: ttl(request),
                    ..SetItem::new(request.key.bytes(), value)
                });
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        let statuses = self.client.set_many(items).await?;
        for ((request, value_bytes), status) in sent.into_iter().zip(statuses) {
            match status {
                Status::OK => self.tally.stored(request, value_bytes),
                status => self.refused(status)?,
            }
        }
        Ok(())
    }

    /// Carries out a request that shares no frame with others.
    async fn execute_alone(&mut self, request: &Request) -> Result<(), Failure> {
        match request.operation {
            Operation::Increment | Operation::Decrement => self.count(request).await,
            Operation::Touch => {
                let touched = self.client.touch(request.key.bytes(), ttl(request)).await;
                self.judge(touched).map(drop)
            }
            Operation::Delete => {
                let deleted = self.client.delete(request.key.bytes()).await?;
                self.tally.deleted += u64::from(deleted);
                Ok(())
            }
            _ => self.store(request).await,
        }
    }

    async fn store(&mut self, request: &Request) -> Result<(), Failure> {
        let Some(value) = self.value(request) else {
            return Ok(());
        };
        let (key, value_bytes) = (request.key.bytes(), value.len());
        let stored = match request.operation {
            Operation::Append => self.client.append(key, value).await,
            Operation::Prepend => self.client.prepend(key, value).await,
            operation => {
                let store = match operation {
                    Operation::Add => self.client.add(key, value),
                    _ => self.client.replace(key, value),
                };
                match ttl(request) {
                    Some(ttl) => store.expire_in(ttl).await,
                    None => store.await,
                }
            }
        };
        match self.judge(stored)? {
            Some(Some(_)) => self.tally.stored(request, value_bytes),
            Some(None) => self.tally.not_stored += 1,
            None => {}
        }
        Ok(())
    }

    async fn count(&mut self, request: &Request) -> Result<(), Failure> {
        let key = request.key.bytes();
        let count = match request.operation {
            Operation::Increment => self.client.increment(key),
            _ => self.client.decrement(key),
        };
        let count = count.initial(0);
        let counted = match ttl(request) {
            Some(ttl) => count.expire_in(ttl).await,
            None => count.await,
        };
        match self.judge(counted)? {
            Some(Some(counter)) => self.tally.counted(request, counter.number),
            Some(None) => self.tally.not_stored += 1,
            None => {}
        }
        Ok(())
    }

    /// What is stored for a request; nothing, and counted, where the server would not take it.
    fn value(&mut self, request: &Request) -> Option<Bytes> {
        let value_bytes = request.value_bytes().unwrap_or(0);
        if value_bytes > self.limits.value_bytes_max as usize {
            self.tally.too_large += 1;
            return None;
        }
        if value_bytes > self.zeros.len() {
            self.zeros = vec![0; value_bytes.next_power_of_two()].into();
        }
        Some(self.zeros.slice(..value_bytes))
    }

    /// Counts what the server refused for reasons that a cache may have; any other error ends the
    /// replay.
    fn judge<T>(&mut self, answer: Result<T, Error>) -> Result<Option<T>, Failure> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Refused { status, .. }) if is_a_cache_s_reason(status) => {
                self.refused(status)?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn refused(&mut self, status: Status) -> Result<(), Failure> {
        match status {
            Status::TOO_LARGE => self.tally.too_large += 1,
            Status::NO_SPACE => self.tally.no_space += 1,
            Status::NOT_A_NUMBER => self.tally.not_stored += 1,
            status => {
                return Err(Failure::unreachable(format!(
                    "the server refused a request: {status}"
                )));
            }
        }
        Ok(())
    }
}

fn is_a_cache_s_reason(status: Status) -> bool {
    matches!(
        status,
        Status::TOO_LARGE | Status::NO_SPACE | Status::NOT_A_NUMBER
    )
}

fn ttl(request: &Request) -> Option<Duration> {
    request.ttl_ms.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::super::request::TraceKey;
    use super::{Operation, ROUND_BYTES, Request, rounds};

    fn request(key: u64, size_bytes: u32) -> Request {
        Request {
            time_ms: 0,
            key: TraceKey::number(key),
            size_bytes,
            operation: Operation::Get,
            ttl_ms: None,
        }
    }

    #[test]
    fn no_key_is_in_a_round_twice_and_no_request_is_lost() {
        let keys = [1, 2, 3, 2, 2, 1];
        let requests = keys.map(|key| request(key, 100));
        let lengths: Vec<_> = rounds(&requests).map(<[_]>::len).collect();
        assert_eq!(lengths, [3, 1, 2]);
    }

    #[test]
    fn a_large_value_has_a_round_of_its_own() {
        let large = ROUND_BYTES as u32 + 1;
        let requests = [request(1, large), request(2, large), request(3, 100)];
        let lengths: Vec<_> = rounds(&requests).map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 1, 1]);
    }
}
