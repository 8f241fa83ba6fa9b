//! `larder touch`, `delete` and `incr`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use clap::{ArgGroup, Args};
use larder_client::{Client, Error, Status};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::answer::{Answer, bytes_as_json, readable_key};
use super::keys::{Absent, KeyOptions};
use super::{Site, not_found};
use crate::cli::ending::Failure;
use crate::cli::units;

const TOUCH_EXAMPLE: &str = "\
Examples:
  larder touch session:17 --expire-in 30m
  larder touch config:main config:spare --forever";

const DELETE_EXAMPLE: &str = "\
Examples:
  larder delete session:17
  larder delete session:17 session:18 session:19
  larder scan 'session:*' --null | larder delete --keys-from - --null";

const INCR_EXAMPLE: &str = "\
Examples:
  larder incr visits --initial 1
  larder incr stock -3

The new number is printed. Counting down stops at 0; counting up goes on from 0 after 2^64 - 1.";

/// The options of `larder touch`.
#[derive(Debug, Args)]
#[command(about = "Give keys a new expiry", after_help = TOUCH_EXAMPLE)]
#[command(group = ArgGroup::new("expiry").args(["expire_in", "forever"]).required(true))]
pub(crate) struct TouchOptions {
    #[command(flatten)]
    pub(super) keys: KeyOptions,

    /// How long the items live from now on
    #[arg(long, alias = "ttl", value_name = "DURATION", value_parser = units::duration)]
    expire_in: Option<Duration>,

    /// The items do not expire any more
    #[arg(long)]
    forever: bool,
}

/// The options of `larder delete`.
#[derive(Debug, Clone, Args)]
#[command(about = "Delete keys", visible_alias = "del", after_help = DELETE_EXAMPLE)]
pub(crate) struct DeleteOptions {
    #[command(flatten)]
    pub(super) keys: KeyOptions,
}

/// The options of `larder incr`.
#[derive(Debug, Clone, Args)]
#[command(about = "Add to a counter, or subtract from it", after_help = INCR_EXAMPLE)]
pub(crate) struct IncrOptions {
    /// The key
    pub(super) key: OsString,

    /// What is added; a negative number is subtracted
    #[arg(
        value_name = "BY", default_value_t = 1, allow_negative_numbers = true,
        value_parser = units::number::<i128>
    )]
    by: i128,

    /// Subtract in place of adding
    #[arg(long)]
    down: bool,

    /// What an absent counter is created with
    #[arg(long, value_name = "N", value_parser = units::number::<u64>)]
    initial: Option<u64>,

    /// How long a counter that is created lives [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "initial")]
    expire_in: Option<Duration>,
}

impl TouchOptions {
    pub(super) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        let mut tally = Tally::default();
        let ended = self.ask_for_all(client, site, &mut tally).await;
        tally.answer("touched", ended)
    }

    async fn ask_for_all(
        &self,
        client: &Client,
        site: Site,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let mut keys = self.keys.open(site)?;
        loop {
            let some = keys.next()?;
            if some.is_empty() {
                return Ok(());
            }
            let was_there = touch(client, &some, self.expire_in).await?;
            tally.count(&some, &was_there);
        }
    }
}

/// Touches keys at once, each in a request of its own. Says of each whether it was there.
async fn touch(
    client: &Client,
    keys: &[Vec<u8>],
    expire_in: Option<Duration>,
) -> Result<Vec<bool>, Failure> {
    let mut requests = JoinSet::new();
    for (place, key) in keys.iter().cloned().enumerate() {
        let client = client.clone();
        requests.spawn(async move { (place, client.touch(key, expire_in).await) });
    }
    let mut was_there = vec![false; keys.len()];
    while let Some(ended) = requests.join_next().await {
        let (place, touched) = ended.expect("a request neither panics nor is cancelled");
        was_there[place] = touched?;
    }
    Ok(was_there)
}

impl DeleteOptions {
    /// The same of another key.
    pub(super) fn of(&self, key: &[u8]) -> Self {
        let keys = self.keys.of(key);
        Self { keys }
    }

    pub(super) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        let mut tally = Tally::default();
        let ended = self.ask_for_all(client, site, &mut tally).await;
        tally.answer("deleted", ended)
    }

    async fn ask_for_all(
        &self,
        client: &Client,
        site: Site,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let mut keys = self.keys.open(site)?;
        loop {
            let some = keys.next()?;
            match some.as_slice() {
                [] => return Ok(()),
                // One key has a server's reason where it is refused.
                [key] => tally.count(&some, &[client.delete(key).await?]),
                _ => tally.count(&some, &client.delete_many(&some).await?),
            }
        }
    }
}

/// What came of many keys.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    done: u64,
    absent: Absent,
}

impl Tally {
    fn count(&mut self, keys: &[Vec<u8>], was_there: &[bool]) {
        self.asked += keys.len() as u64;
        for (key, was_there) in keys.iter().zip(was_there) {
            match was_there {
                true => self.done += 1,
                false => self.absent.push(key),
            }
        }
    }

    /// What came of them, or why that is not all of them, with what had come by then.
    fn answer(self, done: &str, ended: Result<(), Failure>) -> Result<Answer, Failure> {
        let Self {
            asked,
            done: of,
            absent,
        } = self;
        if let Err(mut failure) = ended {
            if asked > 0 {
                failure.sentence += &format!("; before that, {done} {of} of {asked}");
            }
            return Err(failure);
        }
        let text = match (asked, of) {
            (1, 0) => return Err(not_found(&absent.named[0])),
            (1, _) => format!("{done}\n"),
            _ => format!("{done} {of} of {asked}\n"),
        };
        let keys: Vec<Value> = absent.named.iter().map(|key| bytes_as_json(key)).collect();
        let json = json!({ done: of, "absent": absent.count, "absent_keys": keys });
        let answer = Answer::text(text, json);
        Ok(match absent.complaint() {
            None => answer,
            Some(complaint) => answer.but(complaint),
        })
    }
}

impl IncrOptions {
    /// The same of another key.
    pub(super) fn of(&self, key: &[u8]) -> Self {
        let key = OsString::from_vec(key.to_vec());
        Self { key, ..*self }
    }

    pub(super) async fn ask(&self, client: &Client) -> Result<Answer, Failure> {
        let delta = u64::try_from(self.by.unsigned_abs()).map_err(|_| {
            Failure::usage(format!(
                "{} is too much to count by; accepted: below 2^64",
                self.by
            ))
        })?;
        let key = self.key.as_bytes();
        let mut count = match self.down ^ self.by.is_negative() {
            true => client.decrement(key),
            false => client.increment(key),
        }
        .by(delta);
        if let Some(initial) = self.initial {
            count = count.initial(initial);
        }
        if let Some(expire_in) = self.expire_in {
            count = count.expire_in(expire_in);
        }
        let counter = count.await.map_err(|error| match error {
            Error::Refused {
                status: status @ Status::NOT_A_NUMBER,
                ..
            } => {
                let key = readable_key(key);
                Failure::not_done(format!(
                    "what is stored under {key} is no number, so that nothing can be added to it ({status})"
                ))
            }
            error => error.into(),
        })?;
        let counter = counter.ok_or_else(|| {
            let absent = not_found(key).sentence;
            Failure::not_done(format!("{absent}; --initial N creates it"))
        })?;
        let json = json!({
            "key": bytes_as_json(key),
            "number": counter.number,
            "version": counter.version,
        });
        Ok(Answer::text(format!("{}\n", counter.number), json))
    }
}
