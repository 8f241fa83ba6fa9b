//! The servers that a load goes to, as a command line names them.

use std::convert::Infallible;
use std::str::FromStr;

use larder_client::ConnectError;

use super::target::{Protocol, Target};
use crate::cli::ending::Failure;

/// A server of a comparison: `[NAME=]URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entrant {
    name: Option<String>,
    target: Target,
}

/// What is given for one of several servers: `[NAME=]WHAT`. Whether what stands before the `=` is a
/// name is known once all names are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given(String);

/// A server, and where its process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) process: Process,
}

/// How the process of a server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Process {
    /// By what the server says about itself, or by whose socket its address is.
    Found,
    /// By its number.
    Numbered(u32),
    /// It is started with this command, and ends with the load.
    Started(String),
}

impl FromStr for Entrant {
    type Err = ConnectError;

    fn from_str(input: &str) -> Result<Self, ConnectError> {
        // No scheme of a URL has a `=`, and no name a `:` or a `/`.
        let named = input
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && !name.contains([':', '/']));
        let (name, url) = match named {
            Some((name, url)) => (Some(name.to_owned()), url),
            None => (None, input),
        };
        Ok(Self {
            name,
            target: url.parse()?,
        })
    }
}

impl FromStr for Given {
    type Err = Infallible;

    fn from_str(input: &str) -> Result<Self, Infallible> {
        Ok(Self(input.to_owned()))
    }
}

impl Given {
    /// For which server it is meant, and what it is.
    fn split<'a>(&'a self, option: &str, servers: &[Server]) -> Result<(usize, &'a str), Failure> {
        let named = self.0.split_once('=').and_then(|(name, what)| {
            let at = servers.iter().position(|server| server.name == name)?;
            Some((at, what))
        });
        match (named, servers) {
            (Some(named), _) => Ok(named),
            (None, [_]) => Ok((0, &self.0)),
            (None, _) => Err(Failure::usage(format!(
                "{option} {} names none of the servers; accepted: NAME=..., where NAME is one of {}",
                self.0,
                names(servers)
            ))),
        }
    }
}

impl Server {
    /// The one server of a load that compares nothing.
    pub(super) fn alone(target: &Target) -> Self {
        Self {
            name: target.to_string(),
            target: target.clone(),
            process: Process::Found,
        }
    }

    /// The servers of a comparison, each with a name of its own: the given one, or its protocol's, or
    /// its URL where others speak that, too.
    pub(super) fn all_of(entrants: &[Entrant]) -> Result<Vec<Self>, Failure> {
        let speakers = |protocol: Protocol| {
            let unnamed = entrants.iter().filter(|entrant| entrant.name.is_none());
            unnamed
                .filter(|entrant| entrant.target.protocol == protocol)
                .count()
        };
        let mut servers: Vec<Self> = Vec::new();
        for Entrant { name, target } in entrants {
            let name = match name {
                Some(name) => name.clone(),
                None if speakers(target.protocol) == 1 => target.protocol.scheme().to_owned(),
                None => target.to_string(),
            };
            if servers.iter().any(|server| server.name == name) {
                return Err(Failure::usage(format!(
                    "two servers are called {name}; accepted: names that differ, as in \
                     --compare one=URL --compare two=URL"
                )));
            }
            servers.push(Self {
                name,
                ..Self::alone(target)
            });
        }
        Ok(servers)
    }

    /// Sets what is known of the servers' processes.
    pub(super) fn set_processes(
        servers: &mut [Self],
        pids: &[Given],
        commands: &[Given],
    ) -> Result<(), Failure> {
        for given in pids {
            let (at, pid) = given.split("--pid", servers)?;
            let pid = pid.parse().ok().filter(|&pid| pid > 0);
            let pid = pid.ok_or_else(|| {
                Failure::usage(format!(
                    "--pid {} has no number of a process; accepted: [NAME=]PID, such as 1234",
                    given.0
                ))
            })?;
            servers[at].set_process("--pid", Process::Numbered(pid))?;
        }
        for given in commands {
            let (at, command) = given.split("--start", servers)?;
            if command.trim().is_empty() {
                return Err(Failure::usage(
                    "--start has no command; accepted: [NAME=]COMMAND, such as 'memcached -p 11311'",
                ));
            }
            servers[at].set_process("--start", Process::Started(command.to_owned()))?;
        }
        Ok(())
    }

    fn set_process(&mut self, option: &str, process: Process) -> Result<(), Failure> {
        if self.process != Process::Found {
            return Err(Failure::usage(format!(
                "{option} is the second word about the process of {}; accepted: --pid or --start, once \
                 for each server",
                self.name
            )));
        }
        self.process = process;
        Ok(())
    }

    /// The place of the server with this name.
    pub(super) fn named(name: &str, servers: &[Self]) -> Result<usize, Failure> {
        let at = servers.iter().position(|server| server.name == name);
        at.ok_or_else(|| {
            Failure::usage(format!(
                "--against {name} is none of the servers; accepted: {}",
                names(servers)
            ))
        })
    }
}

fn names(servers: &[Server]) -> String {
    let names: Vec<&str> = servers.iter().map(|server| &server.name[..]).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{Given, Process, Server};

    fn servers(entrants: &[&str]) -> Vec<Server> {
        let entrants: Vec<_> = entrants.iter().map(|text| text.parse().unwrap()).collect();
        Server::all_of(&entrants).unwrap()
    }

    fn given(texts: &[&str]) -> Vec<Given> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_server_has_the_name_that_is_given_or_its_protocols_or_its_url() {
        let names = |entrants: &[&str]| -> Vec<String> {
            let servers = servers(entrants);
            servers.into_iter().map(|server| server.name).collect()
        };
        assert_eq!(
            names(&["larder://a", "memcached://b", "old=memcached://c"]),
            ["larder", "memcached", "old"]
        );
        assert_eq!(
            names(&["memcached://a:1", "memcached://b:2"]),
            ["memcached://a:1", "memcached://b:2"]
        );
        assert_eq!(names(&["larder+unix:///tmp/a=b"]), ["larder"]);
        let twice = ["a=larder://x", "a=larder://y"].map(|text| text.parse().unwrap());
        let refused = Server::all_of(&twice).unwrap_err().to_string();
        assert!(refused.contains("two servers are called a"), "{refused}");
    }

    #[test]
    fn processes_are_told_by_name_or_for_the_only_server() {
        let mut two = servers(&["larder://x", "memcached://y"]);
        let commands = given(&["larder=A=1 larder serve"]);
        Server::set_processes(&mut two, &given(&["memcached=17"]), &commands).unwrap();
        assert_eq!(
            two[0].process,
            Process::Started("A=1 larder serve".to_owned())
        );
        assert_eq!(two[1].process, Process::Numbered(17));
        let mut one = vec![Server::alone(&"larder://x".parse().unwrap())];
        Server::set_processes(&mut one, &[], &given(&["A=1 larder serve"])).unwrap();
        assert_eq!(
            one[0].process,
            Process::Started("A=1 larder serve".to_owned())
        );
    }

    #[test]
    fn what_is_meant_for_no_server_is_refused() {
        for (pids, commands, why) in [
            (&["17"][..], &[][..], "names none of the servers"),
            (&["other=17"], &[], "one of larder, memcached"),
            (&["larder=x"], &[], "has no number of a process"),
            (&["larder=0"], &[], "has no number of a process"),
            (&["larder=1"], &["larder=serve"], "second word"),
            (&[], &["larder= "], "has no command"),
        ] {
            let mut two = servers(&["larder://x", "memcached://y"]);
            let refused = Server::set_processes(&mut two, &given(pids), &given(commands));
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
