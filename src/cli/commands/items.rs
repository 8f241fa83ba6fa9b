//! `larder get`, `set`, `delete` and `incr`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use larder_client::Client;

use super::files::{self, STANDARD_INPUT, Source};
use super::{ClientCommand, ServerOptions};
use crate::cli::ending::{Ending, Failure, print};
use crate::cli::units;

const GET_EXAMPLE: &str = "\
Example:
  larder get session:17 > session.json
  larder get backup --output backup.tar

The value is written as it is; only on a terminal a line end follows it.";

const SET_EXAMPLE: &str = "\
Examples:
  larder set greeting hello --expire-in 10m
  larder set page:1 - < page.html
  larder set backup --file backup.tar

A file is sent while it is read, however large it is.";

const DELETE_EXAMPLE: &str = "\
Example:
  larder delete session:17";

const INCR_EXAMPLE: &str = "\
Examples:
  larder incr visits --initial 1
  larder incr stock -3

The new number is printed. Counting down stops at 0.";

/// The options of `larder get`.
#[derive(Debug, Args)]
#[command(about = "Print the value of a key", after_help = GET_EXAMPLE)]
pub(crate) struct GetOptions {
    /// The key
    key: OsString,

    /// Write the value into this file while it arrives; - is standard output
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,

    #[command(flatten)]
    server: ServerOptions,
}

/// The options of `larder set`.
#[derive(Debug, Args)]
#[command(about = "Store a value under a key", after_help = SET_EXAMPLE)]
#[command(group = ArgGroup::new("condition").args(["add", "replace"]))]
#[command(group = ArgGroup::new("source").args(["value", "file"]).required(true))]
pub(crate) struct SetOptions {
    /// The key
    key: OsString,

    /// The value; - reads it from standard input
    value: Option<OsString>,

    /// Read the value from this file; - is standard input
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// How long the item lives [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    expire_in: Option<Duration>,

    /// 32 bits that are kept with the item
    #[arg(long, value_name = "N", default_value_t = 0)]
    flags: u32,

    /// Store only if there is no such item
    #[arg(long)]
    add: bool,

    /// Store only if there is such an item
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    server: ServerOptions,
}

/// The options of `larder delete`.
#[derive(Debug, Args)]
#[command(about = "Delete a key", after_help = DELETE_EXAMPLE)]
pub(crate) struct DeleteOptions {
    /// The key
    key: OsString,

    #[command(flatten)]
    server: ServerOptions,
}

/// The options of `larder incr`.
#[derive(Debug, Args)]
#[command(about = "Add to a counter, or subtract from it", after_help = INCR_EXAMPLE)]
pub(crate) struct IncrOptions {
    /// The key
    key: OsString,

    /// What is added; a negative number is subtracted
    #[arg(value_name = "BY", default_value_t = 1, allow_negative_numbers = true)]
    by: i128,

    /// Subtract in place of adding
    #[arg(long)]
    down: bool,

    /// What an absent counter is created with
    #[arg(long, value_name = "N")]
    initial: Option<u64>,

    /// How long a counter that is created lives [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "initial")]
    expire_in: Option<Duration>,

    #[command(flatten)]
    server: ServerOptions,
}

impl ClientCommand for GetOptions {
    const NAME: &'static str = "get";

    fn server(&self) -> &ServerOptions {
        &self.server
    }

    async fn ask(&self, client: &Client) -> Result<Ending, Failure> {
        if let Some(path) = &self.output {
            let stream = client.get_stream(self.key.as_bytes()).await?;
            let stream = stream.ok_or_else(|| not_found(&self.key))?;
            files::write(stream, path).await?;
            return Ok(Ending::Done);
        }
        let Some(item) = client.get(self.key.as_bytes()).await? else {
            return Err(not_found(&self.key));
        };
        print(&item.value)?;
        if io::stdout().is_terminal() {
            print(b"\n")?;
        }
        Ok(Ending::Done)
    }
}

impl ClientCommand for SetOptions {
    const NAME: &'static str = "set";

    fn server(&self) -> &ServerOptions {
        &self.server
    }

    async fn ask(&self, client: &Client) -> Result<Ending, Failure> {
        let key = self.key.as_bytes();
        macro_rules! send {
            ($store:expr) => {{
                let store = $store.flags(self.flags);
                match self.expire_in {
                    Some(expire_in) => store.expire_in(expire_in).await?,
                    None => store.await?,
                }
            }};
        }
        macro_rules! store {
            ($whole:ident, $streamed:ident) => {
                match self.source().await? {
                    Source::Whole(value) => send!(client.$whole(key, value)),
                    Source::File { bytes, file } => send!(client.$streamed(key, bytes, file)),
                }
            };
        }
        if self.add {
            store!(add, add_from).ok_or_else(|| not_stored(&self.key, "it is already there"))?;
        } else if self.replace {
            store!(replace, replace_from)
                .ok_or_else(|| not_stored(&self.key, "there is no such item"))?;
        } else {
            store!(set, set_from);
        }
        print(b"stored\n")?;
        Ok(Ending::Done)
    }
}

impl SetOptions {
    async fn source(&self) -> Result<Source, Failure> {
        match (&self.value, &self.file) {
            (Some(value), _) if value != STANDARD_INPUT => {
                Ok(Source::Whole(value.as_bytes().to_vec()))
            }
            (None, Some(path)) if path.as_os_str() != STANDARD_INPUT => files::open(path).await,
            _ => files::read_standard_input().map(Source::Whole),
        }
    }
}

impl ClientCommand for DeleteOptions {
    const NAME: &'static str = "delete";

    fn server(&self) -> &ServerOptions {
        &self.server
    }

    async fn ask(&self, client: &Client) -> Result<Ending, Failure> {
        if !client.delete(self.key.as_bytes()).await? {
            return Err(not_found(&self.key));
        }
        print(b"deleted\n")?;
        Ok(Ending::Done)
    }
}

impl ClientCommand for IncrOptions {
    const NAME: &'static str = "incr";

    fn server(&self) -> &ServerOptions {
        &self.server
    }

    async fn ask(&self, client: &Client) -> Result<Ending, Failure> {
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
        let Some(counter) = count.await? else {
            return Err(not_found(&self.key));
        };
        print(format!("{}\n", counter.number).as_bytes())?;
        Ok(Ending::Done)
    }
}

fn not_found(key: &OsStr) -> Failure {
    let sentence = format!("{} is not there", key.display());
    Failure {
        ending: Ending::NotFoundOrNotStored,
        sentence,
    }
}

fn not_stored(key: &OsStr, why: &str) -> Failure {
    let sentence = format!("{} was not stored: {why}", key.display());
    Failure {
        ending: Ending::NotFoundOrNotStored,
        sentence,
    }
}
