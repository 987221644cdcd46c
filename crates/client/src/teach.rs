//! `--help`, `--completions` and `--man`: clap and its companions write them, from our table.

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser};
use clap_complete::Shell;

use crate::{
    options::{Era, Kind, Opt},
    program::{COMPATIBLE, Program},
};

/// What `--help` prints.
pub fn help(program: &Program) -> String {
    command(program).render_help().to_string()
}

/// The script for a shell; bash where the word is none of [`SHELLS`](crate::options::SHELLS).
pub fn completions(program: &Program, shell: &str) -> Vec<u8> {
    let shell = match shell {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command(program), program.name, &mut out);
    out
}

/// The manual page, in roff.
pub fn man(program: &Program) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    clap_mangen::Man::new(command(program)).render(&mut out)?;
    Ok(out)
}

/// The one line of `--version`.
pub fn version(program: &Program) -> String {
    format!("{} {} (of Cloud Scheduler {COMPATIBLE})", program.name, env!("CARGO_PKG_VERSION"))
}

fn command(program: &Program) -> Command {
    Command::new(program.name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(program.about)
        .override_usage(format!("{} [options]", program.name))
        .after_help(program.notes)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(program.options().map(arg))
}

fn arg(option: &'static Opt) -> Arg {
    let heading = match option.era {
        Era::Old => "Options",
        Era::New => "Options of Pileus",
    };
    // `-j` alone has no long spelling to be known by.
    let mut arg = Arg::new(option.long.unwrap_or("short")).help(option.help).help_heading(heading);
    if let Some(short) = option.short {
        arg = arg.short(short);
    }
    if let Some(long) = option.long {
        arg = arg.long(long);
    }
    match option.kind {
        Kind::Flag => arg.action(ArgAction::SetTrue),
        Kind::Text(value) => arg.value_name(value).value_hint(ValueHint::Other),
        Kind::File(value) => arg.value_name(value).value_hint(ValueHint::FilePath),
        Kind::Choice(value, words) => arg.value_name(value).value_parser(PossibleValuesParser::new(words)),
        Kind::Seconds => arg.value_name("SECONDS").value_hint(ValueHint::Other),
    }
}
