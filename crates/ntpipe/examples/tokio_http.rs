//! HTTP over a named pipe: a hyper service, and a hyper client that asks it; both check.
//!
//! Docker is one that serves so on Windows. Nothing here knows that it is no socket.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, client, server};
use hyper_util::rt::TokioIo;
use ntpipe::tokio::{ClientOptions, Listener, ServerOptions};
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
const REQUESTS: usize = 25;

#[tokio::main]
pub(crate) async fn main() -> io::Result<()> {
    let pipe = format!(r"\\.\pipe\http-{}", std::process::id());
    let listener = Listener::bind(&pipe, &ServerOptions::new())?;
    let serving = tokio::spawn(serve(listener));

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(ask(pipe.clone(), number));
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    serving.abort();
    Ok(())
}

/// Serves each connection in a task of its own.
async fn serve(listener: Listener) -> io::Result<()> {
    loop {
        let client = TokioIo::new(listener.accept().await?);
        // A client that leaves in the middle is no matter.
        tokio::spawn(
            server::conn::http1::Builder::new().serve_connection(client, service_fn(answer)),
        );
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut response = Response::default();
    match (head.method, head.uri.path()) {
        (Method::GET, "/_ping") => *response.body_mut() = "OK".into(),
        (Method::POST, "/reverse") => match body.collect().await {
            Ok(body) => {
                let mut bytes = body.to_bytes().to_vec();
                bytes.reverse();
                *response.body_mut() = bytes.into();
            }
            Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
        },
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

/// One client's requests, all on one connection.
async fn ask(pipe: String, number: usize) -> io::Result<()> {
    let wait = Duration::from_secs(10);
    let stream = ClientOptions::new().open_wait(pipe, wait).await?;
    let connected = client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(io::Error::other)?;
    tokio::spawn(connection);

    for round in 0..REQUESTS {
        // From a few bytes to more than the pipe's buffers hold.
        let sent: Vec<u8> = (0..=u8::MAX)
            .cycle()
            .take(round * round * 300 + number)
            .collect();
        let (method, path) = match round {
            0 => (Method::GET, "/_ping"),
            _ => (Method::POST, "/reverse"),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "pipe");
        let request = request.body(Full::new(Bytes::from(sent.clone())));
        let request = request.map_err(io::Error::other)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response
            .collect()
            .await
            .map_err(io::Error::other)?
            .to_bytes();
        match round {
            0 => assert_eq!(body, "OK"),
            _ => assert!(body.iter().rev().eq(&sent), "the body came back changed"),
        }
    }
    Ok(())
}
