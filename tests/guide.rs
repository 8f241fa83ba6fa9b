//! docs/client.md and README.md's programs, run: every piece of Rust that they show stands here too, and
//! one test compares them.
#![cfg(feature = "server")]

mod server_harness;

use std::error::Error as Failure;
use std::time::{Duration, Instant};

use larder::server::Running;
use larder::{Cache, Entry, Mode, Outcome};
use larder_client::blocking::{self, Wait};
use larder_client::{Client, Conditional, Error, Server, SetItem, json};
use serde::{Deserialize, Serialize};
use server_harness::{address, settings, start};

type Done = Result<(), Box<dyn Failure>>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    visits: u64,
}

fn server() -> (Running, String) {
    let running = start(settings(1));
    let url = format!("larder://{}", address(&running));
    (running, url)
}

async fn load_report() -> Result<&'static str, std::io::Error> {
    Ok("a day's work")
}

/// All that a text says, whatever its lines.
fn words(text: &str) -> String {
    let text = text.replace("\"larder://127.0.0.1:5273\"", "&url");
    let without_space = text.split_whitespace().collect::<String>();
    // What a formatter adds where it breaks a line.
    let without_commas = without_space.replace(",)", ")").replace(",]", "]");
    without_commas.replace(",}", "}")
}

/// A piece of a document without what only people need.
fn code(piece: &str) -> String {
    let lines = piece.lines().filter(|line| !line.starts_with("use "));
    let code = lines.map(|line| line.split("  //").next().unwrap_or(line).trim_end());
    code.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_documents_show_is_run_here() {
    let here = words(include_str!("guide.rs"));
    let guide = include_str!("../docs/client.md");
    let readme = include_str!("../README.md");
    let mut pieces = 0;
    for text in [guide, readme] {
        for piece in text.split("```rust\n").skip(1) {
            let (piece, _) = piece.split_once("```").expect("a piece ends");
            assert!(here.contains(&words(&code(piece))), "not run:\n{piece}");
            pieces += 1;
        }
    }
    assert!(pieces >= 15, "{pieces}");
}

#[tokio::test]
async fn a_program_from_the_readme() -> Done {
    let (_running, url) = server();
    let client = Client::connect(&url).await?;
    client
        .set("greeting", "hello")
        .expire_in(Duration::from_secs(60))
        .await?;
    let found = client.get_many(["greeting", "other"]).await?;
    let report = client
        .get_or_fill("report", async || load_report().await)
        .await?;

    assert_eq!(found[0].as_ref().expect("just stored").value, "hello");
    assert_eq!(report, "a day's work");
    Ok(())
}

#[test]
fn the_engine_from_the_readme() -> Done {
    let now_ms = 1;
    let cache = Cache::builder().memory_bytes(64 << 20).build()?;
    let mut session = cache.session()?;
    let mut guard = session.pin(now_ms);
    let key = guard.key(b"greeting")?;
    let stored = guard.store(&key, Mode::Set, &Entry::of(b"hello"))?;
    assert!(matches!(stored, Outcome::Stored { .. }));
    assert_eq!(guard.get(&key).unwrap().value(), &b"hello"[..]);
    Ok(())
}

/// The whole program of docs/client.md, against a server of its own.
mod whole {
    use std::sync::LazyLock;

    use larder_client::Client;

    #[expect(non_upper_case_globals, reason = "it stands where a URL stands")]
    static url: LazyLock<String> = LazyLock::new(|| {
        let (running, at) = super::server();
        // It serves until the tests have ended.
        std::mem::forget(running);
        at
    });

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let client = Client::connect(&url).await?;
        client.set("greeting", "hello").await?;
        if let Some(item) = client.get("greeting").await? {
            println!("{:?}", item.value);
        }
        Ok(())
    }

    #[test]
    fn runs() -> super::Done {
        main()
    }
}

async fn embedded() -> Result<Client, Box<dyn Failure>> {
    let cache = Cache::builder().memory_bytes(64 << 20).build()?;
    let client = Client::embedded(cache)?;
    Ok(client)
}

#[tokio::test]
async fn clients() -> Done {
    let ((_running, url), (_other, other_url)) = (server(), server());
    let client = Client::connect(&url).await?;
    client.ping().await?;
    let client =
        Client::connect_many([Server::new(&url), Server::new(&other_url).weight(2)]).await?;
    client.ping().await?;
    embedded().await?.ping().await?;
    Ok(())
}

#[tokio::test]
async fn items() -> Done {
    let client = embedded().await?;
    client
        .set("session:17", "ada")
        .expire_in(Duration::from_secs(3600))
        .await?;
    if let Some(item) = client.get("session:17").await? {
        println!("{:?}, version {}", item.value, item.version);
    }
    client
        .touch("session:17", Some(Duration::from_secs(7200)))
        .await?;
    client.delete("session:17").await?;

    assert!(
        client
            .add("lock", "mine")
            .expire_in(Duration::from_secs(5))
            .await?
            .is_some()
    );
    assert!(client.add("lock", "theirs").await?.is_none());

    let item = client.get("lock").await?.expect("just stored");
    match client.cas("lock", item.version, "still mine").await? {
        Conditional::Done(version) => println!("stored as {version}"),
        Conditional::VersionDiffers => println!("somebody came between"),
        Conditional::NotFound => println!("it is gone"),
    }
    let lock = client.get("lock").await?.expect("just stored");
    assert_eq!(lock.value, "still mine");

    let mut scan = client.scan();
    while let Some(keys) = scan.next_page().await? {
        for key in keys {
            println!("{:?}: {} bytes", key.key, key.value_bytes);
        }
    }

    client
        .set_many([SetItem::new("a", "1"), SetItem::new("b", "2")])
        .await?;
    let found = client.get_many(["a", "b", "c"]).await?;
    assert!(found[0].is_some() && found[2].is_none());

    let visits = client.increment("visits").initial(1).await?;
    assert_eq!(visits.expect("there is one now").number, 1);

    client
        .update("names", |old| {
            let mut names = old.map(|item| item.value.to_vec()).unwrap_or_default();
            names.extend_from_slice(b"ada,");
            Some(names)
        })
        .await?;
    assert_eq!(
        client.get("names").await?.expect("just stored").value,
        "ada,"
    );

    let ada = User {
        name: "ada".into(),
        visits: 3,
    };
    client.set("user:17", json::to_bytes(&ada)?).await?;
    let item = client.get("user:17").await?.expect("just stored");
    assert_eq!(item.json::<User>()?, ada);
    Ok(())
}

#[tokio::test]
async fn what_is_dear_to_make() -> Done {
    let client = embedded().await?;
    let report = client
        .get_or_fill("report", async || load_report().await)
        .expire_in(Duration::from_secs(60))
        .await?;
    assert_eq!(report, "a day's work");
    Ok(())
}

#[tokio::test]
async fn time_and_trouble() -> Done {
    let client = embedded().await?;
    let hint = client
        .within(Duration::from_millis(200))
        .get("hint")
        .await?;
    let page = client.until(Instant::now() + Duration::from_millis(500));
    assert!(hint.is_none() && page.is_connected());

    match client.set("k", "v").await {
        Ok(version) => println!("stored as {version}"),
        Err(error) if error.is_not_executed() => println!("nothing happened: {error}"),
        Err(Error::Unknown(cause)) => println!("it may be stored, or not: {cause}"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

#[test]
fn without_a_runtime() -> Done {
    let (_running, url) = server();
    let client = blocking::connect(&url)?;
    client.set("greeting", "hello").wait()?;
    let greeting = client.get("greeting").wait()?;
    assert_eq!(greeting.expect("just stored").value, "hello");
    Ok(())
}
