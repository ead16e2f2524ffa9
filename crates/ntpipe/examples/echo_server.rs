//! Sends every client of `\\.\pipe\echo` its own bytes back; serves any number at a time.

use std::{io, thread};

use ntpipe::{Listener, ServerOptions};

fn main() -> io::Result<()> {
    let listener = Listener::bind(r"\\.\pipe\echo", &ServerOptions::new())?;
    for client in listener.incoming() {
        let client = client?;
        // An error here ends this client's connection, not the server.
        thread::spawn(move || io::copy(&mut &client, &mut &client));
    }
    Ok(())
}
