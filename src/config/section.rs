//! Typed reading of one table of `cluster.toml`, with the place of everything that is wrong.
//!
//! A section is made with the full list of its keys, so that an unknown key is refused before
//! any value is read; a reader of a key outside that list is a bug and asserts.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Source};
use crate::identity;
use crate::protocol::time::Span;

/// Durations in `cluster.toml` lie between these.
const DURATION_MIN: Duration = Duration::from_millis(1);
const DURATION_MAX: Duration = Duration::from_secs(3_600);

/// The least that a server may be given.
const CAPACITY_MIN: u64 = 1 << 20;

/// One table, and the text it comes from.
pub(super) struct Section<'a> {
    pub source: Source<'a>,
    /// Its name as messages have it: `cluster`, `server`; empty for the whole file.
    name: &'static str,
    known: &'static [&'static str],
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    /// The section `name` with just the `known` keys.
    pub fn new(
        source: Source<'a>,
        name: &'static str,
        known: &'static [&'static str],
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Result<Section<'a>, ConfigError> {
        let section = Section { source, name, known, table, span };
        let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        // The first in the file, because tables do not keep the order.
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(section),
            Some(key) => {
                let found = key.get_ref().as_ref();
                let remedy = match nearest(found, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here are {}", known.join(", ")),
                };
                Err(source.error(&key.span(), &section.path(found), "unknown key", remedy))
            }
        }
    }

    /// The tables of `[[key]]`, in the order of the file.
    pub fn tables(
        &self,
        key: &'static str,
    ) -> Result<Vec<(&'a DeTable<'a>, Range<usize>)>, ConfigError> {
        let wrong = |span: &Range<usize>| {
            self.source.error(
                span,
                &self.path(key),
                "not a list of sections",
                format!("write [[{key}]] above the keys of each"),
            )
        };
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let list = value.get_ref().as_array().ok_or_else(|| wrong(&value.span()))?;
        list.iter()
            .map(|item| match item.get_ref().as_table() {
                Some(table) => Ok((table, item.span())),
                None => Err(wrong(&item.span())),
            })
            .collect()
    }

    /// The table of `[key]`.
    pub fn table(
        &self,
        key: &'static str,
    ) -> Result<Option<(&'a DeTable<'a>, Range<usize>)>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref().as_table() {
            Some(table) => Ok(Some((table, value.span()))),
            None => Err(self.source.error(
                &value.span(),
                &self.path(key),
                "not a section",
                format!("write [{key}] above its keys"),
            )),
        }
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Result<Option<Spanned<&'a str>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some(Spanned::new(value.span(), text))),
            None => Err(self.wrong_type(key, value, "a text in quotes")),
        }
    }

    /// A name of a cluster, a client or an admin.
    pub fn party_name(&self, key: &'static str) -> Result<Spanned<&'a str>, ConfigError> {
        let name = self.required(key, self.text(key)?)?;
        match identity::check_name(name.get_ref()) {
            Ok(()) => Ok(name),
            Err(_) => Err(self.error(
                key,
                &name.span(),
                format!("{:?} can not stand in a certificate's URI", name.get_ref()),
                format!(
                    "use 1 to {} letters, digits, '-', '_' or '.', a letter or digit first",
                    identity::NAME_BYTES_MAX
                ),
            )),
        }
    }

    /// A whole number from `min` to `max`.
    pub fn number(
        &self,
        key: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<Spanned<u64>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Some(digits) = value.get_ref().as_integer() else {
            return Err(self.wrong_type(key, value, "a whole number"));
        };
        match u64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) if (min..=max).contains(&number) => {
                Ok(Some(Spanned::new(value.span(), number)))
            }
            Ok(_) | Err(_) => Err(self.error(
                key,
                &value.span(),
                format!("{digits} is out of range"),
                format!("write a number from {min} to {max}"),
            )),
        }
    }

    /// A size in bytes from `min` to `max`: a number, or a text such as "64KiB".
    pub fn size(&self, key: &'static str, min: u32, max: u32) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let bytes = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => bytes_of(text),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let fits = bytes.and_then(|bytes| u32::try_from(bytes).ok());
        match fits.filter(|&bytes| (min..=max).contains(&bytes)) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.error(
                key,
                &value.span(),
                "not a size within its bounds",
                format!(
                    "write bytes as a number or a text such as \"64KiB\", from {} to {}",
                    size_text(min),
                    size_text(max)
                ),
            )),
        }
    }

    /// A capacity in bytes, at least one mebibyte: a number, or a text such as "20GiB".
    pub fn capacity(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let bytes = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => bytes_of(text),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        match bytes.filter(|&bytes| bytes >= CAPACITY_MIN) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.error(
                key,
                &value.span(),
                "not a capacity",
                format!(
                    "write bytes as a number or a text such as \"20GiB\", from {} on",
                    size_text(CAPACITY_MIN)
                ),
            )),
        }
    }

    /// A duration written for people.
    pub fn duration(&self, key: &'static str) -> Result<Option<Spanned<Span>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let parsed = value.get_ref().as_str().and_then(|text| humantime::parse_duration(text).ok());
        match parsed {
            Some(duration) if (DURATION_MIN..=DURATION_MAX).contains(&duration) => {
                Ok(Some(Spanned::new(value.span(), Span::from(duration))))
            }
            Some(_) => Err(self.error(
                key,
                &value.span(),
                "out of range",
                "write a duration from \"1ms\" to \"1h\"",
            )),
            None => Err(self.error(
                key,
                &value.span(),
                "not a duration",
                "write a number and its unit in quotes, such as \"50ms\" or \"2s\"",
            )),
        }
    }

    /// Yes or no.
    pub fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref().as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(self.wrong_type(key, value, "true or false, without quotes")),
        }
    }

    /// One address with its port.
    pub fn address(&self, key: &'static str) -> Result<Option<Spanned<SocketAddr>>, ConfigError> {
        self.value(key).map(|value| self.address_of(key, value)).transpose()
    }

    /// A list of addresses.
    pub fn addresses(
        &self,
        key: &'static str,
    ) -> Result<Option<Spanned<Vec<Spanned<SocketAddr>>>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.wrong_type(key, value, "a list such as [\"127.0.0.1:4711\"]"));
        };
        let addresses: Result<Vec<_>, _> =
            list.iter().map(|item| self.address_of(key, item)).collect();
        Ok(Some(Spanned::new(value.span(), addresses?)))
    }

    /// A folder; a relative one is resolved against the folder of the configuration file.
    pub fn folder(
        &self,
        key: &'static str,
        default: &str,
    ) -> Result<Spanned<PathBuf>, ConfigError> {
        let text = self.text(key)?.unwrap_or_else(|| Spanned::new(self.span.clone(), default));
        if text.get_ref().is_empty() {
            return Err(self.error(
                key,
                &text.span(),
                "empty path",
                format!("name a folder, such as {default:?}, or leave the key out"),
            ));
        }
        let base = self.source.path.parent().unwrap_or(Path::new(""));
        Ok(Spanned::new(text.span(), base.join(text.get_ref())))
    }

    /// The value of a key that must be there.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| {
            let section = match self.name {
                "server" | "client" | "admin" => format!("[[{}]]", self.name),
                single => format!("[{single}]"),
            };
            self.error(key, &self.span, "missing", format!("add it to {section}"))
        })
    }

    /// The error about `key`, whose value stands at `span`.
    pub fn error(
        &self,
        key: &str,
        span: &Range<usize>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        self.source.error(span, &self.path(key), problem, remedy)
    }

    /// Where the section begins.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        assert!(self.known.contains(&key), "`{key}` is missing in the keys of `{}`", self.name);
        self.table.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> ConfigError {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        let problem = format!("{article} {found} stands here");
        self.error(key, &value.span(), problem, format!("write {wanted}"))
    }

    fn address_of(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Spanned<SocketAddr>, ConfigError> {
        let parsed = value.get_ref().as_str().map(SocketAddr::from_str);
        match parsed {
            Some(Ok(address)) if address.port() > 0 && !address.ip().is_multicast() => {
                Ok(Spanned::new(value.span(), address))
            }
            Some(Ok(address)) => Err(self.error(
                key,
                &value.span(),
                format!("{address} can not be dialled"),
                "write the address of one machine and a port from 1 to 65535",
            )),
            Some(Err(_)) | None => Err(self.error(
                key,
                &value.span(),
                "not an address with a port",
                "write an IP address and a port in quotes, such as \"127.0.0.1:4711\"",
            )),
        }
    }
}

/// The bytes that a text such as "1KiB" stands for.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match text[digits..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// A size as people write it.
pub(super) fn size_text(bytes: impl Into<u64> + Display) -> String {
    let bytes: u64 = bytes.into();
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

/// The known key that `found` is most likely a slip of, if any is near.
fn nearest(found: &str, known: &[&'static str]) -> Option<&'static str> {
    let near = known.iter().map(|&key| (distance(found, key), key)).min()?;
    (near.0 <= 2 && near.0 < near.1.len()).then_some(near.1)
}

/// The number of insertions, deletions and replacements that turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
