//! What healer costs and how fast it is: `cargo xtask bench`.

use std::process::ExitCode;

use clap::Parser as _;
use healer_tests::bench::{self, args::Args};

fn main() -> ExitCode {
    match bench::main(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a command-line tool speaks on its terminal")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
