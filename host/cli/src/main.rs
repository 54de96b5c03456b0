mod plugin_build;

fn main() -> std::process::ExitCode {
    // A stand-in until the command line is there: `keyward plugin build [DIR...] [--out DIR]`.
    let mut arguments = std::env::args_os().skip(3);
    let mut dirs = Vec::new();
    let mut out = std::path::PathBuf::from("plugins");
    while let Some(argument) = arguments.next() {
        if argument == "--out" {
            out = arguments.next().unwrap_or_default().into();
        } else {
            dirs.push(argument.into());
        }
    }
    match plugin_build::build(&dirs, &out, &mut |line: &str| eprintln!("{line}")) {
        Ok(_) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
