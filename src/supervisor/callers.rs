//! By which name this machine is called over TCP, where the admin endpoint listens for this machine alone.
//!
//! A page in a browser on the machine reaches such an endpoint as well. Another's answers are kept from it, unless
//! its own name has been led here: the browser then takes the endpoint for where the page is from. So who calls by
//! a name of the network that is not this machine's is refused. Nobody can lead an address elsewhere, nor a name
//! without a dot.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Refuses who calls this machine by a name that is not its own. What says no name is no browser.
pub(super) async fn only_by_own_name(request: Request, next: Next) -> Response {
    let called = request.headers().get(header::HOST);
    let called = called.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    let system = rustix::system::uname();
    let own = system.nodename().to_string_lossy();
    match called.filter(|called| !is_own(called, &own)) {
        None => next.run(request).await,
        Some(other) => {
            let sentence = format!(
                "this endpoint listens for this machine alone, and {other:?} is no name of it; accepted: an \
                 address, localhost, {own}, or any name without a dot\n"
            );
            (StatusCode::FORBIDDEN, sentence).into_response()
        }
    }
}

/// Whether `HOST` or `HOST:PORT` is this machine, whose name is given.
fn is_own(called: &str, own: &str) -> bool {
    let host = match called.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => called.split(':').next().unwrap_or_default(),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host.parse::<IpAddr>().is_ok()
        || !host.contains('.')
        || host.ends_with(".localhost")
        || host == own.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_called_by_addresses_and_by_names_that_nobody_can_lead_elsewhere() {
        for own in [
            "127.0.0.1:9273",
            "127.0.0.1",
            "[::1]:9273",
            "[::1]",
            "localhost:9273",
            "LOCALHOST.",
            "cache.localhost:1",
            "larder",
            "",
            "Cache-7.example.net:9273",
        ] {
            assert!(is_own(own, "cache-7.example.net"), "{own}");
        }
        for other in [
            "example.net",
            "example.net.:9273",
            "127.0.0.1.example.net",
            "localhost.example.net:9273",
            "cache-7.example.net.example.org",
        ] {
            assert!(!is_own(other, "cache-7.example.net"), "{other}");
        }
    }
}
