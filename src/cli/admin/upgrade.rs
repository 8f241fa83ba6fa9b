//! `larder upgrade`: another program on the contents of a server that runs.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::ask::Told;
use super::{AdminCommand, AdminOptions};
use crate::cli::ending::{Ending, Failure, print};

/// Have a server go on with another program, contents and sockets kept
///
/// The new program first looks at the memory and says what it would keep of it. Then the old worker
/// process answers what it has received and ends, and the new one takes over; connections that are
/// opened meanwhile wait. If the new one does not serve in time (--upgrade-timeout of `larder serve`),
/// the old program takes over again, and this command says why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder upgrade
  larder upgrade --binary ./target/release/larder
  larder upgrade --json                  # one object: done or why not, and the sentence")]
pub(crate) struct UpgradeOptions {
    /// The new program [default: what is now at the path that the server was started from]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,

    /// Answer in JSON: one object, of a failure as well
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminOptions,
}

impl AdminCommand for UpgradeOptions {
    const NAME: &'static str = "upgrade";

    fn admin(&self) -> &AdminOptions {
        &self.admin
    }

    fn request(&self) -> (&'static str, String) {
        let path = match &self.binary {
            None => "/upgrade".to_owned(),
            Some(binary) => {
                // The server may have been started in another folder.
                let binary = std::path::absolute(binary).unwrap_or_else(|_| binary.clone());
                let mut query = form_urlencoded::Serializer::new(String::from("/upgrade?"));
                query.append_pair("binary", &binary.to_string_lossy());
                query.finish()
            }
        };
        ("POST", path)
    }

    fn is_json(&self) -> bool {
        self.json
    }

    fn told(&self, told: Told) -> Result<Ending, Failure> {
        let sentence = told.text.trim_end();
        if !told.is_done {
            return Err(Failure::not_done(sentence));
        }
        let shown = match self.json {
            true => json!({ "upgraded": true, "sentence": sentence }).to_string(),
            false => sentence.to_owned(),
        };
        print(format!("{shown}\n").as_bytes())?;
        Ok(Ending::Done)
    }
}
