//! The command.
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut config = match std::env::args().nth(1) {
        Some(f) => paxoskv::config::Config::load(f.as_ref()).unwrap_or_else(|e| {
            eprintln!("{e}");
            std::process::exit(78)
        }),
        None => paxoskv::config::Config::single(),
    };
    if let Ok(s) = std::env::var("PAXOSKV_SOCKET") {
        config.socket = s.into();
    }
    if let Err(e) = paxoskv::server::run(config) {
        eprintln!("paxoskv: {e}");
        std::process::exit(1)
    }
}
