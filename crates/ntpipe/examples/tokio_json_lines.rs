//! Requests and replies in JSON, each a message of its own: no framing, no length, no delimiter.

use std::io;
use std::time::Duration;

use ntpipe::tokio::{Listener, NamedPipeServer, PipeMode, ServerOptions, call};
use serde_json::{Value, json};

const PIPE: &str = r"\\.\pipe\json";

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> io::Result<()> {
    let mut options = ServerOptions::new();
    let listener = Listener::bind(PIPE, options.pipe_mode(PipeMode::Message))?;
    tokio::spawn(async move {
        while let Ok(client) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    for numbers in [vec![1, 2, 3], vec![], vec![40, 2]] {
        let request = json!({ "sum": numbers });
        let mut reply = [0; 1024];
        let time = Some(Duration::from_secs(1));
        let read = call(PIPE, request.to_string().as_bytes(), &mut reply, time).await?;
        let reply: Value = serde_json::from_slice(reply.get(..read.len).unwrap_or_default())?;
        assert_eq!(reply.get("is"), Some(&json!(numbers.iter().sum::<u64>())));
    }
    Ok(())
}

/// Answers one client's requests until it leaves.
async fn serve(client: NamedPipeServer) -> io::Result<()> {
    let mut request = [0; 1024];
    loop {
        let read = client.read_message(&mut request).await?;
        if read.more {
            // The rest would be taken for the next request.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let request = serde_json::from_slice::<Value>(request.get(..read.len).unwrap_or_default());
        let numbers = request
            .ok()
            .and_then(|it| it.get("sum")?.as_array().cloned());
        let reply = match numbers {
            Some(numbers) => json!({ "is": numbers.iter().filter_map(Value::as_u64).sum::<u64>() }),
            None => json!({ "error": "what?" }),
        };
        client.write_message(reply.to_string().as_bytes()).await?;
    }
}
