//! A real program that keeps its sessions in Larder over the network: the example `web_sessions`.
#![cfg(feature = "server")]

#[path = "../examples/web_sessions/app.rs"]
mod app;
mod server_harness;

use axum::body::Body;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{Request, StatusCode};
use larder_client::Client;
use tower::ServiceExt;

/// Sends one request to an instance of the application; gives status, cookie and text.
async fn ask(
    app: &axum::Router,
    method: &str,
    path: &str,
    cookie: &str,
) -> (StatusCode, String, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(COOKIE, cookie);
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let cookie = response.headers().get(SET_COOKIE);
    let cookie = cookie.map_or_else(String::new, |c| c.to_str().unwrap().to_owned());
    let status = response.status();
    let text = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap();
    (status, cookie, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn two_instances_of_an_application_share_their_sessions() {
    let running = server_harness::start(server_harness::settings(2));
    let url = format!("larder://{}", server_harness::address(&running));
    let one = app::routes(Client::connect(&url).await.unwrap());
    let other = app::routes(Client::connect(&url).await.unwrap());

    let (status, _, _) = ask(&one, "GET", "/", "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let (status, cookie, _) = ask(&one, "POST", "/login/ada", "").await;
    assert_eq!(status, StatusCode::OK);
    let cookie = cookie.split(';').next().unwrap();

    let (_, _, text) = ask(&one, "GET", "/", cookie).await;
    assert_eq!(text, "hello, ada: visit 1\n");
    let (_, _, text) = ask(&other, "GET", "/", cookie).await;
    assert_eq!(text, "hello, ada: visit 2\n");

    let (status, _, _) = ask(&other, "POST", "/logout", cookie).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, _) = ask(&one, "GET", "/", cookie).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
