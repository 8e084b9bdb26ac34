//! The built program: transcripts of commands (`tests/cmd`), and commands beside a running server.

mod operator;
mod process;
mod start;
mod wget;

/// Every transcript: arguments, environment, standard input, both outputs, exit code.
#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cmd/*.toml");
}
