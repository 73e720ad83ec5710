//! Keys and signed tokens: made, shown and revoked where the files are. No node is asked.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{EXIT_UNAVAILABLE, EXIT_USAGE, Exit};
use crate::{
    clock,
    config::Settings,
    token::{self, Claims, KeyError, Keys, Pattern, Revoked, Word, utc},
};

/// What is done with tokens.
#[derive(Clone, Subcommand)]
pub(super) enum Command {
    /// Make a key: in a new file, or before those that are there; the first signs, all are accepted
    Key {
        /// The file [default: `REGISTRY_TOKEN_KEYS_FILE`]
        file: Option<PathBuf>,
    },
    /// Make a token and print it, alone, to standard output; its id goes to standard error
    New(New),
    /// Say what a token holds; exit 0 if a node with these files would take it, else 1
    Inspect {
        /// The token [default: from standard input, where no list of processes shows it]
        token: Option<String>,
    },
    /// Write a token's id to `REGISTRY_TOKEN_REVOKED_FILE`
    Revoke {
        /// The id [default: that of the token on standard input]
        id: Option<String>,
    },
}

/// The options of `registry token new`.
#[derive(Args, Clone)]
pub(super) struct New {
    /// Who will hold it: stands in the log of changes
    #[arg(long, value_name = "NAME")]
    sub: Word,
    /// It may register this service; 'orders*': each that begins so; '*': all. Any number of times
    #[arg(long, value_name = "SERVICE")]
    register: Vec<Pattern>,
    /// It may read this service; all without a name
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, default_missing_value = "*")]
    read: Vec<Pattern>,
    /// It may do both, and drain as an operator; all services without a name
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, default_missing_value = "*")]
    admin: Vec<Pattern>,
    /// How long it counts: a number with s, m, h, d or w
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = token::parse_span)]
    expires: u64,
}

impl From<KeyError> for Exit {
    fn from(error: KeyError) -> Self {
        Self(EXIT_UNAVAILABLE, error.to_string())
    }
}

pub(super) fn run(command: &Command, settings: &Settings) -> Result<(), Exit> {
    match command {
        Command::Key { file } => key(file.as_deref().or_else(|| settings.token_keys_path())),
        Command::New(new) => make(new, settings),
        Command::Inspect { token } => inspect(token.as_deref(), settings),
        Command::Revoke { id } => revoke(id.as_deref(), settings),
    }
}

fn needed<'a>(path: Option<&'a Path>, name: &str) -> Result<&'a Path, Exit> {
    path.ok_or_else(|| Exit(EXIT_USAGE, format!("{name} is not set: name the file there")))
}

/// For people: what a script reads goes to standard output.
fn say(line: &str) {
    // Standard error may be closed; there is nowhere else to say it.
    drop(writeln!(std::io::stderr(), "registry: {line}"));
}

fn print(text: &str) -> Result<(), Exit> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Exit(EXIT_UNAVAILABLE, format!("standard output cannot be written: {error}")))
}

fn key(file: Option<&Path>) -> Result<(), Exit> {
    let file = needed(file, "REGISTRY_TOKEN_KEYS_FILE")?;
    let id = token::add_key(file)?;
    say(&format!("key {id} is the first of '{}': it signs from now on", file.display()));
    Ok(())
}

fn make(new: &New, settings: &Settings) -> Result<(), Exit> {
    if new.register.is_empty() && new.read.is_empty() && new.admin.is_empty() {
        return Err(Exit(EXIT_USAGE, "a token needs a right: --register, --read or --admin".into()));
    }
    let keys = Keys::read(needed(settings.token_keys_path(), "REGISTRY_TOKEN_KEYS_FILE")?)?;
    let now = clock::unix_seconds();
    let id: Word = token::random_id::<12>()?.try_into().map_err(|error: String| Exit(EXIT_USAGE, error))?;
    let mut claims = Claims::new(new.sub.clone(), id, now, now + new.expires);
    claims.register.clone_from(&new.register);
    claims.read.clone_from(&new.read);
    claims.admin.clone_from(&new.admin);
    let token = keys.sign(&claims)?;
    print(&token)?;
    let Claims { sub, jti, exp, .. } = &claims;
    say(&format!("token {jti} of {sub}: {}; it expires at {}", claims.rights(), utc(*exp)));
    Ok(())
}

/// The token of an argument, or of standard input.
fn given(argument: Option<&str>) -> Result<String, Exit> {
    if let Some(argument) = argument {
        return Ok(argument.trim().to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(2 * token::TOKEN_MAX as u64).read_to_string(&mut text);
    read.map_err(|error| Exit(EXIT_USAGE, format!("standard input is no token: {error}")))?;
    Ok(text.trim().to_owned())
}

fn no_token() -> Exit {
    Exit(EXIT_USAGE, "this is no token of a registry".into())
}

fn inspect(argument: Option<&str>, settings: &Settings) -> Result<(), Exit> {
    let token = given(argument)?;
    // What an unsigned token says is shown too, with the word that it does not count.
    let claims = token::unchecked(&token).ok_or_else(no_token)?;
    let now = clock::unix_seconds();
    let signed = match settings.token_keys_path() {
        Some(path) => Some(Keys::read(path)?.open(token.as_bytes()).is_some()),
        None => None,
    };
    let revoked = settings.token_revoked_path().map(Revoked::read).transpose()?;
    let (good, state) = match (signed, revoked.is_some_and(|revoked| revoked.contains(&claims.jti))) {
        (Some(false), _) => (false, "not signed with a key of REGISTRY_TOKEN_KEYS_FILE"),
        (_, true) => (false, "revoked"),
        _ if now > claims.exp => (false, "expired"),
        (None, _) => (false, "not checked: REGISTRY_TOKEN_KEYS_FILE is not set"),
        (Some(true), _) => (true, "good"),
    };
    print(&format!(
        "id       {}\nholder   {}\nrights   {}\nmade     {}\nexpires  {}\nstate    {state}",
        claims.jti,
        claims.sub,
        claims.rights(),
        utc(claims.iat),
        utc(claims.exp),
    ))?;
    if good { Ok(()) } else { Err(Exit(1, format!("the token does not count: {state}"))) }
}

fn revoke(id: Option<&str>, settings: &Settings) -> Result<(), Exit> {
    let file = needed(settings.token_revoked_path(), "REGISTRY_TOKEN_REVOKED_FILE")?;
    let (id, note): (Word, _) = if let Some(id) = id {
        // Not what was given: it may be a whole token.
        let wrong = |rule| Exit(EXIT_USAGE, format!("the id {rule}; a whole token goes to standard input"));
        (id.parse().map_err(wrong)?, String::new())
    } else {
        let claims = token::unchecked(&given(None)?).ok_or_else(no_token)?;
        (claims.jti, format!("of {}, expires {}; ", claims.sub, utc(claims.exp)))
    };
    token::revoke(file, &id, &format!("{note}revoked {}", utc(clock::unix_seconds())))?;
    say(&format!("token {id} is revoked in '{}'", file.display()));
    Ok(())
}
