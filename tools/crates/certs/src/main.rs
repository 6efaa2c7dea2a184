//! `tandem-certs`: makes and checks the certificates of a cluster from the command line.
//!
//! Exit codes: 0 done, 1 something is wrong (and said, with the remedy), 2 usage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use tandem::config::ClusterConfig;
use tandem::identity::{Identity, META_ID, PartyRole};
use tandem_certs::{Facts, Issue, Level, check, init, issue};
use time::macros::format_description;

/// Makes and checks the certificates of a Tandem cluster.
///
/// Every party of a cluster proves who it is with a certificate that the cluster's own CA signed.
/// This tool makes the CA and one certificate for each party of cluster.toml, and finds what is
/// wrong with them before a connection fails.
#[derive(Parser)]
#[command(
    name = "tools/certs",
    bin_name = "tools/certs",
    after_help = EXAMPLES,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tools/certs init                          make what cluster.toml needs and is not there yet
  tools/certs init --force --validity 90d   renew every certificate; the CA stays
  tools/certs issue server 4                one more server
  tools/certs issue client app --force      renew one
  tools/certs check                         is all well? exits 1 if not, with the remedies
  tools/certs show --all                    who is who, and until when

Keep ca.key away from the cluster's machines; each needs ca.pem and its own pair only.";

#[derive(Subcommand)]
enum Command {
    /// Make the CA if there is none, and the certificates that are missing.
    ///
    /// Nothing that is there is replaced without --force, and the CA never: to start over, move
    /// ca.pem and ca.key away first.
    Init {
        #[command(flatten)]
        cluster: Cluster,
        #[command(flatten)]
        issuing: Issuing,
        /// How long a new CA is valid.
        #[arg(long, value_name = "DURATION", default_value = "3650d")]
        #[arg(value_parser = humantime::parse_duration)]
        ca_validity: Duration,
    },
    /// Make the certificate of one party.
    Issue {
        /// What the party is.
        #[arg(value_enum)]
        role: Role,
        /// A server's number, or the name of a client or an admin; not needed for meta.
        #[arg(required_if_eq_any([("role", "server"), ("role", "client"), ("role", "admin")]))]
        id: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
        #[command(flatten)]
        issuing: Issuing,
    },
    /// Judge every certificate and key as the cluster will; exits 1 on any problem.
    Check {
        #[command(flatten)]
        cluster: Cluster,
        #[command(flatten)]
        output: Output,
    },
    /// Show what certificates say.
    Show {
        /// Certificate files.
        #[arg(required_unless_present = "all", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The CA and all parties of cluster.toml.
        #[arg(long, conflicts_with = "files")]
        all: bool,
        #[command(flatten)]
        cluster: Cluster,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
struct Cluster {
    /// The cluster's configuration.
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct Issuing {
    /// How long certificates are valid, such as 90d or 12h.
    #[arg(long, value_name = "DURATION", default_value = "365d")]
    #[arg(value_parser = humantime::parse_duration)]
    validity: Duration,
    /// Replace certificates and keys that are there.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
struct Output {
    /// For people or for scripts.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Meta,
    Server,
    Client,
    Admin,
}

impl From<Role> for PartyRole {
    fn from(role: Role) -> PartyRole {
        match role {
            Role::Meta => PartyRole::Meta,
            Role::Server => PartyRole::Server,
            Role::Client => PartyRole::Client,
            Role::Admin => PartyRole::Admin,
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tools/certs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Init { cluster, issuing, ca_validity } => {
            let config = ClusterConfig::load(&cluster.config)?;
            let Issuing { validity, force } = issuing;
            let made = init(&config, Issue { validity, ca_validity, force })?;
            let mut out = std::io::stdout().lock();
            for file in &made {
                let verb = if file.new { "made" } else { "kept" };
                writeln!(out, "{verb}  {}", file.certificate.display())?;
            }
            writeln!(out, "Cluster {:?} has its certificates.", config.name())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Issue { role, id, cluster, issuing } => {
            let config = ClusterConfig::load(&cluster.config)?;
            let id = id.as_deref().unwrap_or(META_ID);
            let identity = Identity::new(config.name(), role.into(), id)?;
            let Issuing { validity, force } = issuing;
            let made = issue(&config, &identity, Issue { validity, force, ..Issue::default() })?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "made  {} for {identity}", made.certificate.display())?;
            if !config.identities().contains(&identity) {
                writeln!(out, "{} does not list this party yet", config.path().display())?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { cluster, output } => {
            report(&ClusterConfig::load(&cluster.config)?, output.output)
        }
        Command::Show { files, all, cluster, output } => {
            let files = if all { all_files(&cluster.config)? } else { files };
            show(&files, output.output)
        }
    }
}

/// Prints what is wrong.
fn report(config: &ClusterConfig, format: Format) -> Result<ExitCode> {
    let findings = check(config, tandem::clock::wall_clock());
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?,
        Format::Table => {
            for finding in &findings {
                let level = match finding.level {
                    Level::Problem => "problem",
                    Level::Warning => "warning",
                };
                writeln!(out, "{level}: {}: {}", finding.file.display(), finding.problem)?;
                writeln!(out, "  remedy: {}", finding.remedy)?;
            }
            let count = config.identities().len() + 1;
            if findings.is_empty() {
                writeln!(out, "All {count} certificates of cluster {:?} are good.", config.name())?;
            }
        }
    }
    let bad = findings.iter().any(|finding| finding.level == Level::Problem);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The certificate files of the cluster.
fn all_files(config: &Path) -> Result<Vec<PathBuf>> {
    let config = ClusterConfig::load(config)?;
    let leaves = config.identities();
    let leaves = leaves.iter().map(|identity| config.credential_files(identity).certificate);
    let files: Vec<PathBuf> =
        std::iter::once(config.ca_file()).chain(leaves).filter(|file| file.exists()).collect();
    if files.is_empty() {
        bail!("{} has no certificates; make them with: tools/certs init", config.certs().display());
    }
    Ok(files)
}

/// One certificate of the output for scripts.
#[derive(Serialize)]
struct Shown<'a> {
    file: &'a Path,
    days_left: i64,
    #[serde(flatten)]
    facts: Facts,
}

fn show(files: &[PathBuf], format: Format) -> Result<ExitCode> {
    let now = tandem::clock::wall_clock();
    let mut shown = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("can not read {}", file.display()))?;
        let facts = Facts::read(&text).with_context(|| file.display().to_string())?;
        shown.push(Shown { file, days_left: facts.days_left(now), facts });
    }
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?,
        Format::Table => {
            let mut rows = vec![
                ["FILE", "SUBJECT", "IDENTITY", "SERIAL", "FROM (UTC)", "UNTIL (UTC)", "DAYS"]
                    .map(str::to_owned),
            ];
            for Shown { file, days_left, facts } in &shown {
                let identity = if facts.ca { "(the CA)".to_owned() } else { facts.uris.join(" ") };
                let minute = format_description!("[year]-[month]-[day] [hour]:[minute]");
                rows.push([
                    file.display().to_string(),
                    facts.subject.clone(),
                    identity,
                    facts.serial.clone(),
                    facts.not_before.format(minute)?,
                    facts.not_after.format(minute)?,
                    days_left.to_string(),
                ]);
            }
            print_table(&mut out, &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints `rows` with aligned columns.
fn print_table<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
