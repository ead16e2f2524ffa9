//! The code in the README is the code of the examples.

const README: &str = include_str!("../../../README.md");
const EXAMPLES: [(&str, &str); 4] = [
    ("echo_server", include_str!("../examples/echo_server.rs")),
    ("echo_client", include_str!("../examples/echo_client.rs")),
    ("tokio_echo", include_str!("../examples/tokio_echo.rs")),
    ("tokio_call", include_str!("../examples/tokio_call.rs")),
];

/// The code blocks that are marked as Rust.
fn rust_blocks(text: &str) -> Vec<&str> {
    text.split("```rust\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect()
}

#[test]
fn each_rust_block_of_the_readme_is_an_example() {
    let blocks = rust_blocks(README);
    assert_eq!(blocks.len(), EXAMPLES.len());
    for (block, (name, source)) in blocks.into_iter().zip(EXAMPLES) {
        assert_eq!(block, source, "{name}.rs and the README differ");
    }
}
