//! From the tree of a file to the typed [`Config`], with every mistake on the way reported.
//!
//! A [`Section`] is one mapping being read: each field asked for is thereby known, and what is
//! left at its end is refused with the nearest known name. Readers return `None` after reporting
//! a problem, and go on, so that one run finds all problems of a file.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use keyward_contract::{
    Amounts, Decimal, Price, PricePart, PriceStep, ProviderKind,
    decimal::BadDecimal,
    price::{Class, Currency, Day, PriceError, PriceList, REQUEST, Tariff},
};
use url::Url;

mod caching;
mod routing;

use super::{
    caching::CacheSizes,
    error::{ConfigError, MAX_PROBLEMS, Problem, position_after, quote},
    guard, human,
    human::ByteSize,
    routing::{HealthChecks, Routing},
    tree::{self, Key, Node, Position, Value},
    types::{
        Config, Grant, KeySource, LARGEST_MEMORY, Limits, Metering, Model, NamedKey, PluginGrant,
        Plugins, Provider, STACKS, SandboxLimits, Server, Timeouts, Token, TokenSource,
        VariableName, Vault,
    },
};
use crate::{
    ids::{AccountName, AdapterName, BadName, KeyName, MAX_NAME, ModelName, ProviderName},
    privacy::{self, Detector, Detectors, Pattern, PatternError, PrivacyRules},
};

/// The largest configuration file. A thousand providers fit in a tenth of it.
pub const MAX_FILE: usize = 1 << 20;
/// The longest wait that can be configured; more is a slip of the unit.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Beyond this, limits are no limits.
const MAX_CONCURRENCY: u32 = 100_000;
/// Beyond this, a rate is no limit.
const MAX_RATE: u32 = 10_000_000;
/// Keys of one provider. Each attempt looks at all of them.
const MAX_KEYS: usize = 64;
/// The caller's name where no token is configured.
const LOCAL_CALLER: &str = "local";

const PRICE_FORM: &str = "As in `prices: {input: 0.25, output: 2}`, in dollars per million tokens.";
/// The unit in which adapters report what the vendor's cache keeps for an hour.
const WRITTEN_FOR_AN_HOUR: &str = "cache_write_1h_tokens";

/// Names that other tools give to fields of ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("address", "listen"),
    ("api_base", "endpoint"),
    ("base_url", "endpoint"),
    ("baseurl", "endpoint"),
    ("bind", "listen"),
    ("concurrent", "concurrency"),
    ("disabled", "enabled"),
    ("driver", "adapter"),
    ("host", "endpoint"),
    ("max_concurrency", "concurrency"),
    ("name", "id"),
    ("options", "settings"),
    ("plugin", "adapter"),
    ("port", "listen"),
    ("provider", "adapter"),
    ("request", "total"),
    ("timeout", "timeouts"),
    ("type", "adapter"),
    ("url", "endpoint"),
];

/// The file a configuration came from, to show where in it a later problem stands.
pub(super) struct Source {
    pub file: PathBuf,
    text: String,
    places: HashMap<String, Place>,
}

/// What of the file a problem points at.
#[derive(Clone, Copy)]
struct Place {
    at: Option<Position>,
    /// Characters to underline.
    width: usize,
    /// Nothing from here to the end of the line may be shown.
    secret: bool,
}

impl Place {
    fn of(key: &Key) -> Self {
        Self { at: key.at, width: key.name.chars().count(), secret: false }
    }

    fn secret(self) -> Self {
        Self { width: 1, secret: true, ..self }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        let source = Source { file: PathBuf::new(), text: String::new(), places: HashMap::new() };
        Self {
            server: Server::default(),
            providers: IndexMap::new(),
            routes: IndexMap::new(),
            routing: Routing::default(),
            health: HealthChecks::default(),
            cache: CacheSizes::default(),
            plugins: Plugins::default(),
            vault: Vault::default(),
            metering: Metering::default(),
            privacy: PrivacyRules::default(),
            source: Arc::new(source),
        }
    }
}

impl Config {
    /// Reads the bytes of a file; `file` is its name for messages, and its folder is what relative
    /// paths start from.
    ///
    /// # Errors
    /// If there is anything wrong with it; all problems together unless it isn't even YAML.
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Self, ConfigError> {
        let text = decode(bytes, file)?;
        let node = tree::parse(text).map_err(|wrong| {
            let problem = Problem::at(text, wrong.at, 1, false, "", &wrong.message);
            ConfigError::of_file(
                file,
                match wrong.help {
                    Some(help) => problem.help(help),
                    None => problem,
                },
            )
        })?;
        let reader = Reader {
            text,
            folder: file.parent().unwrap_or(Path::new("")),
            problems: RefCell::default(),
            unkept: Cell::default(),
            places: RefCell::default(),
        };
        let mut config = reader.config(&node);
        let problems = reader.problems.into_inner();
        if !problems.is_empty() {
            return Err(ConfigError::with_more(file, problems, reader.unkept.get()));
        }
        config.source = Arc::new(Source {
            file: file.to_owned(),
            text: text.to_owned(),
            places: reader.places.into_inner(),
        });
        Ok(config)
    }

    /// The file this was read from; empty for [`Config::default`].
    pub fn file(&self) -> &Path {
        &self.source.file
    }

    /// A problem found later than by reading, as with a setting that the adapter doesn't know,
    /// shown at its field: `providers.openai.settings.organization`. An unknown path is shown
    /// without a place.
    pub fn problem(&self, path: &str, message: &str, help: Option<&str>) -> Problem {
        let place = self.source.places.get(path).copied().unwrap_or(Place {
            at: None,
            width: 1,
            secret: false,
        });
        let problem = Problem::at(&self.source.text, place.at, place.width, false, path, message);
        match help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }

    /// Where the field at `path` stands in the file.
    pub fn position(&self, path: &str) -> Option<Position> {
        self.source.places.get(path)?.at
    }
}

fn decode<'t>(bytes: &'t [u8], file: &Path) -> Result<&'t str, ConfigError> {
    if bytes.len() > MAX_FILE {
        return Err(ConfigError::of_file(file, too_large()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = error.valid_up_to();
        let before = std::str::from_utf8(&bytes[..valid]).unwrap_or_default();
        let mut problem =
            Problem::of_file(format!("byte {valid} isn't UTF-8")).help("Save the file as UTF-8.");
        problem.at = Some(position_after(before));
        ConfigError::of_file(file, problem)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

pub(super) fn too_large() -> Problem {
    Problem::of_file("larger than 1 MiB")
        .help("A configuration is far smaller: is this the right file?")
}

/// A value with where it belongs.
#[derive(Clone)]
struct Field<'t> {
    path: String,
    node: &'t Node,
    /// The provider it concerns, for advice about its key.
    provider: Option<&'t str>,
}

struct Reader<'t> {
    text: &'t str,
    folder: &'t Path,
    problems: RefCell<Vec<Problem>>,
    /// Problems beyond those.
    unkept: Cell<usize>,
    places: RefCell<HashMap<String, Place>>,
}

/// A field's name and how to read it.
type Choice<'c, 't, T> = (&'static str, &'c dyn Fn(&Field<'t>) -> Option<T>);

struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    field: Field<'t>,
    entries: &'t [(Key, Node)],
    known: Vec<&'static str>,
    /// Values in here are or name secrets: nothing of an unknown one is shown.
    secret: bool,
}

impl<'t> Section<'_, 't> {
    /// The field `name`, unless absent or without a value.
    fn field(&mut self, name: &'static str) -> Option<Field<'t>> {
        self.known.push(name);
        let (key, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        let field = self.reader.child(&self.field, key, node);
        (!matches!(node.value, Value::Null)).then_some(field)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Reader<'t>, &Field<'t>) -> Option<T>,
    ) -> Option<T> {
        let field = self.field(name)?;
        read(self.reader, &field)
    }

    /// Reports what nobody asked for.
    fn end(self) {
        for (key, node) in self.entries {
            if !self.known.contains(&key.name.as_str()) {
                self.unknown(key, node);
            }
        }
    }

    fn unknown(&self, key: &Key, node: &Node) {
        let reader = self.reader;
        if guard::asks_for_key(&key.name) && !matches!(node.value, Value::Map(_) | Value::Null) {
            reader.secret(&reader.child(&self.field, key, node));
            return;
        }
        let known = self.known.join(", ");
        let help = match suggestion(&key.name, &self.known) {
            Some(name) => format!("Did you mean `{name}`? Known here: {known}."),
            None if self.field.path.is_empty() => {
                format!("Known here: {known}. A provider goes below `providers:`.")
            }
            None => format!("Known here: {known}."),
        };
        let place = Place::of(key);
        let place = if self.secret { place.secret() } else { place };
        reader.add(place, &self.field.path, &format!("unknown key {}", quote(&key.name)), &help);
    }
}

impl<'t> Reader<'t> {
    // ------------------------------------------------------------------ problems

    fn add(&self, place: Place, path: &str, message: &str, help: &str) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() >= 2 * MAX_PROBLEMS {
            // Each costs a look at its line: a hostile file could have as many as it has words.
            self.unkept.set(self.unkept.get() + 1);
            return;
        }
        let problem = Problem::at(self.text, place.at, place.width, place.secret, path, message);
        problems.push(problem.help(help));
    }

    fn report(&self, field: &Field<'t>, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.add(self.place(field.node), &field.path, message.as_ref(), help.as_ref());
    }

    /// As [`Reader::report`], without showing what stands there.
    fn report_hidden(&self, field: &Field<'t>, message: &str, help: &str) {
        self.add(self.place(field.node).secret(), &field.path, message, help);
    }

    fn wrong_kind(&self, field: &Field<'t>, wanted: &str, form: &str) {
        let message = format!("{} where {wanted} is wanted", field.node.value.kind());
        self.report(field, message, form);
    }

    /// A credential in the file: said without showing it.
    fn secret(&self, field: &Field<'t>) {
        let name = field.provider.unwrap_or("NAME");
        let variable: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let help = format!(
            "Keys don't belong into this file. Store it with `keyward key set {name}`, or say where \
             it is: `key: {{env: {variable}_API_KEY}}` or `key: {{file: PATH}}`. Who could read the \
             file knows the key now: consider a new one."
        );
        self.report_hidden(field, "a key stands in the file", &help);
    }

    /// The first line of a scalar, or the beginning of anything else.
    fn place(&self, node: &Node) -> Place {
        let text = node.bytes.clone().and_then(|bytes| self.text.get(bytes)).unwrap_or_default();
        let width = text.split(['\n', '\r']).next().unwrap_or_default().trim_end().chars().count();
        Place { at: node.at, width, secret: false }
    }

    // ------------------------------------------------------------------ structure

    fn child(&self, parent: &Field<'t>, key: &Key, node: &'t Node) -> Field<'t> {
        let name = match key.name.char_indices().nth(MAX_NAME) {
            Some((end, _)) => &key.name[..end],
            None => &key.name,
        };
        let path = match parent.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        self.places.borrow_mut().insert(path.clone(), Place::of(key));
        Field { path, node, provider: parent.provider }
    }

    fn entries(&self, field: &Field<'t>, form: &str) -> Option<&'t [(Key, Node)]> {
        let entries = match &field.node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.wrong_kind(field, "a mapping", form);
                return None;
            }
        };
        let mut first = HashMap::new();
        for (key, _) in entries {
            let Some(earlier) = first.insert(key.name.as_str(), key.at) else { continue };
            let line = earlier.map_or(String::new(), |at| format!(", first in line {}", at.line));
            let message = format!("{} stands here twice{line}", quote(&key.name));
            self.add(Place::of(key), &field.path, &message, "Remove one of the two.");
        }
        Some(entries)
    }

    fn section(&self, field: &Field<'t>, form: &str) -> Option<Section<'_, 't>> {
        let entries = self.entries(field, form)?;
        Some(Section {
            reader: self,
            field: field.clone(),
            entries,
            known: Vec::new(),
            secret: false,
        })
    }

    fn items(&self, field: &Field<'t>, form: &str) -> Vec<Field<'t>> {
        let Value::List(items) = &field.node.value else {
            self.wrong_kind(field, "a list", form);
            return Vec::new();
        };
        let items = items.iter().enumerate().map(|(index, node)| {
            let path = format!("{}[{index}]", field.path);
            self.places.borrow_mut().insert(path.clone(), self.place(node));
            Field { path, node, provider: field.provider }
        });
        items.collect()
    }

    /// The entries of a mapping whose keys are names of the user's choice.
    fn named<N, T>(
        &self,
        field: &Field<'t>,
        form: &str,
        name: impl Fn(&str) -> Result<N, BadName>,
        read: impl Fn(Field<'t>, &N, &'t str) -> Option<T>,
    ) -> IndexMap<N, T>
    where
        N: std::hash::Hash + Eq,
    {
        let mut named = IndexMap::new();
        for (key, node) in self.entries(field, form).unwrap_or_default() {
            let entry = self.child(field, key, node);
            if guard::is_key(&key.name) {
                let message = "a key stands in the place of a name";
                self.add(Place::of(key).secret(), &field.path, message, form);
                continue;
            }
            match name(&key.name) {
                Ok(name) => {
                    if let Some(value) = read(entry, &name, &key.name) {
                        named.entry(name).or_insert(value);
                    }
                }
                Err(_) => self.bad_name(&field.path, Place::of(key), &key.name),
            }
        }
        named
    }

    fn bad_name(&self, path: &str, place: Place, name: &str) {
        let lower: String = name.trim().to_ascii_lowercase().replace(' ', "-");
        let form = "A name begins with a lower-case letter or digit and has at most 64 of these, `-`, `_` and `.`.";
        let help = match ProviderName::new(&lower) {
            Ok(name) => format!("{form} For example `{name}`."),
            Err(_) => form.to_owned(),
        };
        self.add(place, path, &format!("{} is not a name", quote(name)), &help);
    }

    // ------------------------------------------------------------------ scalars

    /// A text, or what was written where YAML sees a number: a model may be called `4.1`.
    fn text(&self, field: &Field<'t>, form: &str) -> Option<&'t str> {
        let text = match &field.node.value {
            Value::Text(text) => text.as_str(),
            Value::Number(_) => self.text.get(field.node.bytes.clone()?)?.trim(),
            _ => {
                self.wrong_kind(field, "a text", form);
                return None;
            }
        };
        if guard::is_key(text) {
            self.secret(field);
            return None;
        }
        Some(text)
    }

    /// A text in which somebody might expect variables to be replaced.
    fn literal(&self, field: &Field<'t>, form: &str) -> Option<&'t str> {
        let text = self.text(field, form)?;
        if text.contains("${") {
            let help = "Write the value itself. A key is named by `key: {env: NAME}`.";
            self.report(field, "variables aren't replaced in this file", help);
            return None;
        }
        Some(text)
    }

    fn flag(&self, field: &Field<'t>) -> Option<bool> {
        match field.node.value {
            Value::Bool(flag) => Some(flag),
            _ => {
                self.wrong_kind(field, "true or false", "Write `true` or `false`, without quotes.");
                None
            }
        }
    }

    fn number(&self, field: &Field<'t>, most: u32) -> Option<u32> {
        let form = format!("Write a whole number from 1 to {most}.");
        let Value::Number(number) = &field.node.value else {
            self.wrong_kind(field, "a number", &form);
            return None;
        };
        let fits =
            number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=most).contains(n));
        if fits.is_none() {
            self.report(field, "out of range", form);
        }
        fits
    }

    fn duration(&self, field: &Field<'t>) -> Option<Duration> {
        let form = format!("Here {}.", human::DURATION_FORM);
        if let Value::Number(_) = field.node.value {
            self.report(field, "a number without a unit", form);
            return None;
        }
        let text = self.text(field, &form)?;
        match human::duration(text) {
            Some(Duration::ZERO) => self.report(field, "nothing happens within no time", form),
            Some(long) if long > MAX_DURATION => self.report(field, "more than 7 days", form),
            Some(duration) => return Some(duration),
            None => self.report(field, format!("{} is no duration", quote(text)), form),
        }
        None
    }

    fn size(&self, field: &Field<'t>) -> Option<ByteSize> {
        let form = format!("Here {}.", human::SIZE_FORM);
        if let Value::Number(_) = field.node.value {
            self.report(field, "a number without a unit", form);
            return None;
        }
        let text = self.text(field, &form)?;
        match human::size(text) {
            Some(ByteSize(0)) => self.report(field, "nothing fits into no bytes", form),
            Some(size) => return Some(size),
            None => self.report(field, format!("{} is no size", quote(text)), form),
        }
        None
    }

    fn memory(&self, field: &Field<'t>) -> Option<ByteSize> {
        let help = "An adapter has at most 1GiB; 64MiB unless given.";
        self.size_within(field, &(1..=LARGEST_MEMORY), help)
    }

    fn stack(&self, field: &Field<'t>) -> Option<ByteSize> {
        let help = "An adapter's stack has 64KiB to 16MiB; 512KiB unless given.";
        self.size_within(field, &STACKS, help)
    }

    fn size_within(
        &self,
        field: &Field<'t>,
        range: &RangeInclusive<usize>,
        help: &str,
    ) -> Option<ByteSize> {
        let size = self.size(field)?;
        if usize::try_from(size.0).is_ok_and(|bytes| range.contains(&bytes)) {
            return Some(size);
        }
        self.report(field, "an adapter can't have this much", help);
        None
    }

    /// Relative paths start from the configuration's folder.
    fn path(&self, field: &Field<'t>) -> Option<PathBuf> {
        let form =
            "Write the path of a file, relative to the folder of this one if it isn't absolute.";
        let text = self.literal(field, form)?;
        if text.is_empty() || text.contains('\0') || text.starts_with("~/") {
            self.report(field, format!("{} is no path", quote(text)), form);
            return None;
        }
        Some(self.folder.join(text))
    }

    fn variable(&self, field: &Field<'t>) -> Option<VariableName> {
        let form =
            "Write the variable's name alone, as `env: OPENAI_API_KEY`: letters, digits and `_`.";
        let text = self.literal(field, form)?;
        let name = VariableName::new(text);
        if name.is_none() {
            // It may be the key itself.
            self.report_hidden(field, "this isn't the name of an environment variable", form);
        }
        name
    }

    fn adapter(&self, field: &Field<'t>) -> Option<AdapterName> {
        self.name(field, "Write the adapter's name, as `adapter: ollama`.", AdapterName::new)
    }

    /// A name of one kind.
    fn name<T>(
        &self,
        field: &Field<'t>,
        form: &str,
        read: impl FnOnce(&str) -> Result<T, BadName>,
    ) -> Option<T> {
        let text = self.literal(field, form)?;
        read(text).inspect_err(|_| self.bad_name(&field.path, self.place(field.node), text)).ok()
    }

    fn model_name(&self, field: &Field<'t>) -> Option<ModelName> {
        let text = self.literal(field, "Write the model's name.")?;
        match ModelName::new(text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.report(
                    field,
                    format!("{} is no model name", quote(text)),
                    format!("Here {error}."),
                );
                None
            }
        }
    }

    fn url(&self, field: &Field<'t>) -> Option<Url> {
        let form = "Write a base URL, as `https://api.example.com/v1` or `http://127.0.0.1:11434`.";
        let text = self.literal(field, form)?;
        // The URL standard repairs these silently; here they are slips, or tricks.
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
        if text.contains(odd) {
            self.report(field, "a URL holds no spaces and no backslashes", form);
            return None;
        }
        if !text.starts_with("https://") && !text.starts_with("http://") {
            let help = match Url::parse(&format!("https://{text}")) {
                Ok(url) if !text.contains(':') && !text.contains('@') && text.contains('.') => {
                    format!("Did you mean `{url}`?")
                }
                _ => form.to_owned(),
            };
            self.report(field, "a URL begins with https:// or http://", help);
            return None;
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                self.report(field, format!("not a URL: {error}"), form);
                return None;
            }
        };
        // An empty user or query counts as well: `https://@host` is a slip, too.
        let authority = text.split("//").nth(1).unwrap_or_default();
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            let help =
                "Remove `user:password@` and store the password with `keyward key set NAME`.";
            self.report(field, "a user or password stands in the URL", help);
        } else if url.query().is_some() {
            let help =
                "Remove everything from `?` on. What the vendor wants there is a setting or a key.";
            self.report(field, "a base URL has no query", help);
        } else if url.fragment().is_some() {
            self.report(field, "a base URL has no fragment", "Remove everything from `#` on.");
        } else if url.host_str().is_none_or(str::is_empty) {
            self.report(field, "no host in the URL", form);
        } else {
            return Some(url);
        }
        None
    }

    // ------------------------------------------------------------------ sections

    fn config(&self, root: &'t Node) -> Config {
        let field = Field { path: String::new(), node: root, provider: None };
        let mut config = Config::default();
        let form = "A configuration begins with `providers:`.";
        let Some(mut section) = self.section(&field, form) else { return config };
        config.server = section.read("server", Self::server).unwrap_or_default();
        config.providers = section.read("providers", Self::providers).unwrap_or_default();
        let providers = &config.providers;
        config.routes =
            section.read("routes", |r, field| r.routes(field, providers)).unwrap_or_default();
        config.routing =
            section.read("routing", |r, field| r.routing(field, providers)).unwrap_or_default();
        config.health = section.read("health", Self::health).unwrap_or_default();
        config.cache = section.read("cache", Self::cache_sizes).unwrap_or_default();
        config.plugins = section.read("plugins", Self::plugins).unwrap_or_default();
        config.vault = section.read("vault", Self::vault).unwrap_or_default();
        config.metering = section.read("metering", Self::metering).unwrap_or_default();
        // That the section is there switches detection on, so an empty one counts as well.
        if section.entries.iter().any(|(key, _)| key.name == "privacy") {
            config.privacy =
                section.read("privacy", Self::privacy).unwrap_or_else(PrivacyRules::on);
        } else {
            section.known.push("privacy");
        }
        section.end();
        config
    }

    fn server(&self, field: &Field<'t>) -> Option<Server> {
        let mut section = self.section(field, "As in `server: {listen: \"127.0.0.1:8484\"}`.")?;
        let mut server = Server::default();
        let written = section.field("listen");
        if let Some(listen) = written.as_ref().and_then(|field| self.listen(field)) {
            server.listen = listen;
        }
        let tokens = section.field("tokens");
        if let Some(tokens) = &tokens {
            server.tokens = self.tokens(tokens);
        }
        section.end();
        if let Some(written) = written
            && !server.listen.ip().is_loopback()
            && tokens.is_none_or(
                |tokens| matches!(&tokens.node.value, Value::List(list) if list.is_empty()),
            )
        {
            let help =
                "Add `tokens: [{name: team-a, env: KEYWARD_TOKEN}]`, or listen on 127.0.0.1.";
            self.report(&written, "other machines could call without a token", help);
        }
        Some(server)
    }

    fn listen(&self, field: &Field<'t>) -> Option<SocketAddr> {
        let form =
            "Write address and port, as `127.0.0.1:8484`, `0.0.0.0:8484` or `\"[::1]:8484\"`.";
        let text = self.literal(field, form)?;
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        if let Some(port) = local {
            return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        }
        let address = text.parse().ok();
        if address.is_none() {
            self.report(field, format!("{} is no address with a port", quote(text)), form);
        }
        address
    }

    fn tokens(&self, field: &Field<'t>) -> Vec<Token> {
        let form = "As in `tokens: [{name: team-a, env: KEYWARD_TOKEN}]`.";
        let mut names = HashSet::new();
        let tokens = self.items(field, form).into_iter().filter_map(|item| {
            let token = self.token(&item)?;
            if !names.insert(token.name.clone()) {
                self.report(
                    &item,
                    format!("a second caller named `{}`", token.name),
                    "Choose another name.",
                );
            }
            Some(token)
        });
        tokens.collect()
    }

    fn token(&self, field: &Field<'t>) -> Option<Token> {
        let form = "As in `{name: team-a, env: KEYWARD_TOKEN}`, or with `file:` or `sha256:` instead of `env:`. \
                    The token itself never stands in this file.";
        if !matches!(field.node.value, Value::Map(_)) {
            // It may be the token itself.
            self.report_hidden(field, "not a mapping", form);
            return None;
        }
        let mut section = self.section(field, form)?;
        section.secret = true;
        let named = section.field("name");
        let name = named.as_ref().and_then(|field| {
            let text = self.literal(field, form)?;
            if text == LOCAL_CALLER {
                let help = "`local` is who calls without a token. Choose another name.";
                self.report(field, "this name is taken", help);
                return None;
            }
            let name = ProviderName::new(text);
            name.inspect_err(|_| self.bad_name(&field.path, self.place(field.node), text)).ok()
        });
        let source = self.one_of(
            &mut section,
            form,
            &[
                ("env", &|field| self.variable(field).map(TokenSource::Env)),
                ("file", &|field| self.path(field).map(TokenSource::File)),
                ("sha256", &|field| self.sha256(field).map(TokenSource::Sha256)),
            ],
        );
        let operator = section.read("operator", Self::flag).unwrap_or_default();
        section.end();
        if named.is_none() {
            self.report(field, "a token without a `name`", form);
        }
        Some(Token { name: name?.as_str().into(), operator, source: source? })
    }

    /// The one field of several that is given.
    fn one_of<T>(
        &self,
        section: &mut Section<'_, 't>,
        form: &str,
        choices: &[Choice<'_, 't, T>],
    ) -> Option<T> {
        let given: Vec<_> = choices
            .iter()
            .filter_map(|(name, read)| section.field(name).map(|field| (field, read)))
            .collect();
        match given.as_slice() {
            [(field, read)] => read(field),
            // What stands there under an unknown name is reported with that name.
            [] if section
                .entries
                .iter()
                .any(|(key, _)| !section.known.contains(&key.name.as_str())) =>
            {
                None
            }
            [] => {
                self.report(&section.field, "nothing says where it is", form);
                None
            }
            [_, (second, _), ..] => {
                self.report(second, "more than one place is given", form);
                None
            }
        }
    }

    fn sha256(&self, field: &Field<'t>) -> Option<[u8; 32]> {
        let form = "Write the 64 hex digits of the token's SHA-256, in quotes.";
        let text = self.text(field, form)?;
        let digest = (text.len() == 64 && text.is_ascii()).then(|| {
            let mut digest = [0; 32];
            for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
                *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
            }
            text.bytes().all(|b| b.is_ascii_hexdigit()).then_some(digest)
        });
        if digest.flatten().is_none() {
            self.report_hidden(field, "not a SHA-256 in hex", form);
        }
        digest.flatten()
    }

    fn providers(&self, field: &Field<'t>) -> Option<IndexMap<ProviderName, Provider>> {
        let form = "As in `providers: {openai: {models: [gpt-5]}}`.";
        Some(self.named(field, form, ProviderName::new, |mut entry, name, written| {
            entry.provider = Some(written);
            self.provider(&entry, name)
        }))
    }

    fn provider(&self, field: &Field<'t>, name: &ProviderName) -> Option<Provider> {
        let form =
            format!("As in `{name}: {{endpoint: https://api.example.com/v1, models: [a, b]}}`.");
        let mut section = self.section(field, &form)?;
        // One rule holds for both kinds of names.
        let mut provider = Provider::new(AdapterName::new(name.as_str()).ok()?);
        if let Some(enabled) = section.read("enabled", Self::flag) {
            provider.enabled = enabled;
        }
        if let Some(adapter) = section.read("adapter", Self::adapter) {
            provider.adapter = adapter;
        }
        provider.kind = section.read("kind", Self::kind);
        let endpoint = section.field("endpoint");
        provider.endpoint = endpoint.as_ref().and_then(|field| self.url(field));
        let endpoints = section.field("endpoints");
        if let Some(endpoints) = &endpoints {
            provider.endpoints = self.endpoints(endpoints, provider.kind);
        }
        if let (Some(_), Some(endpoints)) = (&endpoint, &endpoints) {
            self.report(endpoints, "both `endpoint` and `endpoints`", "Keep one of the two.");
        }
        if let (Some(field), Some(url)) = (&endpoint, &provider.endpoint) {
            self.encrypted(field, url, provider.kind);
        }
        provider.key = section.read("key", Self::key);
        let keys = section.field("keys");
        provider.keys = keys.as_ref().and_then(|field| self.keys(field)).unwrap_or_default();
        if let (Some(field), Some(_)) = (&keys, &provider.key) {
            self.report(field, "`key` and `keys` together", "Write all of them under `keys`.");
        }
        provider.account = section.read("account", Self::account);
        provider.models = section.read("models", Self::models).unwrap_or_default();
        if let Some(auto) = section.read("auto", Self::flag) {
            provider.auto = auto;
        }
        if let Some(cost_tracking) = section.read("cost_tracking", Self::flag) {
            provider.cost_tracking = cost_tracking;
        }
        provider.settings = section.read("settings", Self::settings).unwrap_or_default();
        provider.timeouts = section.read("timeouts", Self::timeouts).unwrap_or_default();
        provider.limits = section.read("limits", Self::limits).unwrap_or_default();
        provider.cache = section.read("cache", Self::answer_cache);
        provider.batch = section.read("batch", Self::batching);
        provider.grants = section.read("grants", Self::grants).unwrap_or_default();
        provider.ca_file = section.read("ca_file", Self::path);
        section.end();
        Some(provider)
    }

    fn kind(&self, field: &Field<'t>) -> Option<ProviderKind> {
        let form = "Write `local` if it runs on machines you control, else `external`.";
        match self.literal(field, form)? {
            "local" => Some(ProviderKind::Local),
            "external" => Some(ProviderKind::External),
            text => {
                self.report(field, format!("{} is no kind of provider", quote(text)), form);
                None
            }
        }
    }

    fn endpoints(&self, field: &Field<'t>, kind: Option<ProviderKind>) -> IndexMap<String, Url> {
        let form = "As in `endpoints: {api: https://api.example.com/v1}`.";
        self.named(
            field,
            form,
            |name| ProviderName::new(name).map(String::from),
            |entry, _, _| {
                let url = self.url(&entry)?;
                self.encrypted(&entry, &url, kind);
                Some(url)
            },
        )
    }

    /// Whether keys and prompts would cross foreign networks in the clear.
    fn encrypted(&self, field: &Field<'t>, url: &Url, kind: Option<ProviderKind>) {
        if kind == Some(ProviderKind::External) && url.scheme() == "http" {
            let help = "Write https://, or `kind: local` if this runs on machines you control.";
            self.report(
                field,
                "an external provider over http, which anyone on the way can read",
                help,
            );
        }
    }

    fn key(&self, field: &Field<'t>) -> Option<KeySource> {
        let form = "As in `key: {env: OPENAI_API_KEY}` or `key: {file: /run/secrets/openai}`.";
        if !matches!(field.node.value, Value::Map(_)) {
            self.secret(field);
            return None;
        }
        let mut section = self.section(field, form)?;
        section.secret = true;
        let source = self.one_of(
            &mut section,
            form,
            &[
                ("env", &|field| self.variable(field).map(KeySource::Env)),
                ("file", &|field| self.path(field).map(KeySource::File)),
            ],
        );
        section.end();
        source
    }

    fn keys(&self, field: &Field<'t>) -> Option<Vec<NamedKey>> {
        let form = "As in `keys: [team-a, {name: team-b, env: TEAM_B_KEY}]`.";
        let mut names = HashSet::new();
        let mut keys = Vec::new();
        for item in self.items(field, form) {
            let Some(key) = self.named_key(&item, form) else { continue };
            if !names.insert(key.name.clone()) {
                let message = format!("{} is listed twice", quote(key.name.as_str()));
                self.report(&item, message, "Remove one of the two.");
            }
            keys.push(key);
        }
        if keys.len() > MAX_KEYS {
            let message = format!("more than {MAX_KEYS} keys");
            self.report(field, message, "Use a second provider with the same adapter.");
        }
        Some(keys)
    }

    fn named_key(&self, field: &Field<'t>, form: &str) -> Option<NamedKey> {
        if !matches!(field.node.value, Value::Map(_)) {
            return Some(NamedKey { name: self.name(field, form, KeyName::new)?, source: None });
        }
        let mut section = self.section(field, form)?;
        section.secret = true;
        let given = section.field("name");
        let env = section.read("env", Self::variable).map(KeySource::Env);
        let file = section.read("file", Self::path).map(KeySource::File);
        section.end();
        if env.is_some() && file.is_some() {
            self.report(field, "more than one place is given", form);
        }
        let Some(given) = given else {
            self.report(field, "a key without a `name`", form);
            return None;
        };
        Some(NamedKey { name: self.name(&given, form, KeyName::new)?, source: env.or(file) })
    }

    fn account(&self, field: &Field<'t>) -> Option<AccountName> {
        self.name(field, "As in `account: our-team`.", AccountName::new)
    }

    fn models(&self, field: &Field<'t>) -> Option<Vec<Model>> {
        let mut names = HashSet::new();
        let models = self
            .items(field, "As in `models: [gpt-5-mini, gpt-5]`.")
            .into_iter()
            .filter_map(|item| {
                let model = self.model(&item)?;
                for name in std::iter::once(&model.id).chain(&model.alias) {
                    if !names.insert(name.clone()) {
                        let message = format!("{} is listed twice", quote(name.as_str()));
                        self.report(&item, message, "Remove one of the two.");
                    }
                }
                Some(model)
            });
        Some(models.collect())
    }

    fn model(&self, field: &Field<'t>) -> Option<Model> {
        if !matches!(field.node.value, Value::Map(_)) {
            return Some(Model::new(self.model_name(field)?));
        }
        let form = "As in `{id: qwen3:8b, alias: qwen, context_window: 32768}`.";
        let mut section = self.section(field, form)?;
        let given = section.field("id");
        let id = given.as_ref().and_then(|field| self.model_name(field));
        let alias = section.read("alias", Self::model_name);
        let tokens = |r: &Self, f: &Field<'t>| r.number(f, u32::MAX);
        let context_window = section.read("context_window", tokens);
        let max_output_tokens = section.read("max_output_tokens", tokens);
        let prices = section.read("prices", Self::prices);
        section.end();
        if given.is_none() {
            self.report(field, "a model without an `id`", form);
        }
        Some(Model { id: id?, alias, context_window, max_output_tokens, prices })
    }

    /// One price or a list of them.
    fn prices(&self, field: &Field<'t>) -> Option<Vec<Price>> {
        let given = match &field.node.value {
            Value::List(_) => self.items(field, PRICE_FORM),
            _ => vec![field.clone()],
        };
        let prices: Vec<_> = given.iter().filter_map(|item| self.price(item)).collect();
        // Only the list as a whole can be in the wrong order: the rest was seen by each price.
        if let (Err(problem), true) = (PriceList::new(&prices), prices.len() == given.len()) {
            self.report(field, problem.to_string(), PRICE_FORM);
        }
        Some(prices)
    }

    fn price(&self, field: &Field<'t>) -> Option<Price> {
        let mut section = self.section(field, PRICE_FORM)?;
        let before = self.problems.borrow().len();
        let mut price = Price {
            from: section.read("from", Self::price_text::<Day>).unwrap_or(Day::FIRST).to_string(),
            currency: section
                .read("currency", Self::price_text::<Currency>)
                .unwrap_or(Currency::USD)
                .to_string(),
            source: field.path.clone(),
            ..Price::default()
        };
        price.amounts = self.amounts(&mut section);
        if let Some(amount) = section.read(REQUEST, Self::amount) {
            price.per_unit.insert(REQUEST.to_owned(), amount);
        }
        for (unit, amount) in section.read("units", Self::units).unwrap_or_default() {
            price.per_unit.insert(unit, amount);
        }
        price.bill = section.read("bill", |r, f| Some(r.text(f, PRICE_FORM)?.to_owned()));
        price.above = section.read("above", Self::steps).unwrap_or_default();
        section.end();
        match Tariff::new(&price) {
            Ok(_) => Some(price),
            Err(_) if self.problems.borrow().len() > before => None,
            Err(problem) => {
                self.report(field, problem.to_string(), PRICE_FORM);
                None
            }
        }
    }

    fn steps(&self, field: &Field<'t>) -> Option<Vec<PriceStep>> {
        let form = "As in `above: [{tokens: 200000, input: 4, output: 18}]`.";
        let steps = self.items(field, form).into_iter().filter_map(|item| {
            let mut section = self.section(&item, form)?;
            let tokens = section.read("tokens", |r, f| r.number(f, u32::MAX));
            let amounts = self.amounts(&mut section);
            section.end();
            if tokens.is_none() {
                self.report(&item, "a price for longer prompts without its `tokens`", form);
            }
            Some(PriceStep { tokens: tokens?.into(), amounts })
        });
        Some(steps.collect())
    }

    /// The classes of tokens in a price.
    fn amounts(&self, section: &mut Section<'_, 't>) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, class) in [
            ("input", Class::Input),
            ("cache_read", Class::CacheRead),
            ("cache_write", Class::CacheWrite),
            ("output", Class::Output),
            ("reasoning", Class::Reasoning),
        ] {
            if let Some(amount) = section.read(name, Self::amount) {
                amounts.per_million.insert(class.as_str().to_owned(), amount);
            }
        }
        if let Some(per_million) = section.read("cache_write_1h", Self::amount) {
            let of = Class::CacheWrite.as_str().to_owned();
            amounts.parts.insert(WRITTEN_FOR_AN_HOUR.to_owned(), PricePart { of, per_million });
        }
        amounts
    }

    fn units(&self, field: &Field<'t>) -> Option<Vec<(String, String)>> {
        let entries = self.entries(field, "As in `units: {searches: 0.01}`.")?;
        let entries = entries.iter().filter_map(|(key, node)| {
            Some((key.name.clone(), self.amount(&self.child(field, key, node))?))
        });
        Some(entries.collect())
    }

    /// A decimal as written, so that nothing of it is lost.
    fn amount(&self, field: &Field<'t>) -> Option<String> {
        let text = self.text(field, PRICE_FORM)?;
        if text.parse::<Decimal>().is_err() {
            self.report(
                field,
                format!("{} is no amount", quote(text)),
                format!("Here {BadDecimal}."),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn price_text<T: FromStr<Err = PriceError>>(&self, field: &Field<'t>) -> Option<T> {
        let text = self.text(field, PRICE_FORM)?;
        text.parse()
            .inspect_err(|problem: &PriceError| {
                self.report(field, problem.to_string(), PRICE_FORM);
            })
            .ok()
    }

    fn settings(&self, field: &Field<'t>) -> Option<serde_json::Map<String, serde_json::Value>> {
        let entries = self.entries(field, "As in `settings: {num_ctx: 8192}`.")?;
        let entries = entries.iter().filter_map(|(key, node)| {
            Some((key.name.clone(), self.json(&self.setting(field, key, node)?)?))
        });
        Some(entries.collect())
    }

    /// `None` after reporting a setting whose name asks for a secret.
    fn setting(&self, parent: &Field<'t>, key: &Key, node: &'t Node) -> Option<Field<'t>> {
        let field = self.child(parent, key, node);
        if guard::asks_for_key(&key.name) && matches!(node.value, Value::Text(_) | Value::Number(_))
        {
            self.secret(&field);
            return None;
        }
        Some(field)
    }

    fn json(&self, field: &Field<'t>) -> Option<serde_json::Value> {
        Some(match &field.node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(_) => self.text(field, "")?.into(),
            Value::List(_) => {
                let items: Vec<_> =
                    self.items(field, "").iter().filter_map(|item| self.json(item)).collect();
                items.into()
            }
            Value::Map(_) => self.settings(field)?.into(),
        })
    }

    fn timeouts(&self, field: &Field<'t>) -> Option<Timeouts> {
        let mut section = self.section(field, "As in `timeouts: {connect: 5s, total: 10m}`.")?;
        let timeouts = Timeouts {
            connect: section.read("connect", Self::duration),
            first_byte: section.read("first_byte", Self::duration),
            patience: section.read("patience", Self::duration),
            idle: section.read("idle", Self::duration),
            total: section.read("total", Self::duration),
        };
        section.end();
        Some(timeouts)
    }

    fn limits(&self, field: &Field<'t>) -> Option<Limits> {
        let mut section = self.section(field, "As in `limits: {concurrency: 64}`.")?;
        let most = MAX_CONCURRENCY;
        let limits = Limits {
            concurrency: section.read("concurrency", |r, f| r.number(f, most)),
            requests_per_minute: section.read("requests_per_minute", |r, f| r.number(f, MAX_RATE)),
            tokens_per_minute: section.read("tokens_per_minute", |r, f| r.number(f, u32::MAX)),
            queue: section.read("queue", |r, f| r.number(f, most)),
            wait: section.read("wait", Self::duration),
        };
        section.end();
        Some(limits)
    }

    fn grants(&self, field: &Field<'t>) -> Option<Vec<Grant>> {
        let elsewhere = |text: &str| {
            PluginGrant::ALL.iter().any(|grant| grant.as_str() == text).then(|| {
                format!(
                    "It belongs to the adapter: write `plugins: {{grants: {{NAME: [{text}]}}}}`."
                )
            })
        };
        let form = "As in `grants: [read-content]`.";
        Some(self.rights(field, form, &Grant::ALL, Grant::as_str, elsewhere))
    }

    fn plugin_grants(&self, field: &Field<'t>) -> Option<IndexMap<AdapterName, Vec<PluginGrant>>> {
        let elsewhere = |text: &str| {
            Grant::ALL.iter().any(|grant| grant.as_str() == text).then(|| {
                format!(
                    "It belongs to a provider: write `providers: {{NAME: {{grants: [{text}]}}}}`."
                )
            })
        };
        let form = "As in `grants: {mini: [wasi]}`.";
        Some(self.named(field, form, AdapterName::new, |entry, _, _| {
            Some(self.rights(&entry, form, &PluginGrant::ALL, PluginGrant::as_str, elsewhere))
        }))
    }

    /// A list of rights out of `all`. `elsewhere` knows those that are given in another place.
    fn rights<G: Copy + PartialEq>(
        &self,
        field: &Field<'t>,
        form: &str,
        all: &[G],
        name: impl Fn(G) -> &'static str,
        elsewhere: impl Fn(&str) -> Option<String>,
    ) -> Vec<G> {
        let mut given = Vec::new();
        for item in self.items(field, form) {
            let names: Vec<_> = all.iter().map(|right| name(*right)).collect();
            let known = format!("There are: {}.", names.join(", "));
            let Some(text) = self.literal(&item, &known) else { continue };
            match all.iter().find(|right| name(**right) == text) {
                Some(right) if given.contains(right) => {}
                Some(right) => given.push(*right),
                None => {
                    let help = elsewhere(text).unwrap_or(known);
                    self.report(&item, format!("{} is no grant", quote(text)), help);
                }
            }
        }
        given
    }

    fn plugins(&self, field: &Field<'t>) -> Option<Plugins> {
        let mut section = self.section(field, "As in `plugins: {limits: {memory: 64MiB}}`.")?;
        let plugins = Plugins {
            limits: section.read("limits", Self::sandbox_limits).unwrap_or_default(),
            overrides: section.read("overrides", Self::overrides).unwrap_or_default(),
            grants: section.read("grants", Self::plugin_grants).unwrap_or_default(),
        };
        section.end();
        Some(plugins)
    }

    fn overrides(&self, field: &Field<'t>) -> Option<IndexMap<AdapterName, SandboxLimits>> {
        let form = "As in `overrides: {openai: {memory: 128MiB}}`.";
        Some(self.named(field, form, AdapterName::new, |entry, _, _| self.sandbox_limits(&entry)))
    }

    fn sandbox_limits(&self, field: &Field<'t>) -> Option<SandboxLimits> {
        let mut section = self.section(field, "As in `{memory: 64MiB, cpu: 200ms}`.")?;
        let count = |r: &Self, f: &Field<'t>| r.number(f, u32::MAX);
        let limits = SandboxLimits {
            memory: section.read("memory", Self::memory),
            stack: section.read("stack", Self::stack),
            cpu: section.read("cpu", Self::duration),
            exchange_cpu: section.read("exchange_cpu", Self::duration),
            output: section.read("output", Self::size),
            handles: section.read("handles", count),
            steps: section.read("steps", count),
            requests: section.read("requests", count),
            waits: section.read("waits", count),
            outputs: section.read("outputs", count),
            component_size: section.read("component_size", Self::size),
            compile_time: section.read("compile_time", Self::duration),
            compile_memory: section.read("compile_memory", Self::size),
        };
        section.end();
        Some(limits)
    }

    fn vault(&self, field: &Field<'t>) -> Option<Vault> {
        let mut section = self.section(field, "As in `vault: {master_key_file: /path}`.")?;
        section.secret = true;
        let vault = Vault { master_key_file: section.read("master_key_file", Self::path) };
        section.end();
        Some(vault)
    }

    fn metering(&self, field: &Field<'t>) -> Option<Metering> {
        let mut section = self.section(field, "As in `metering: {enabled: true}`.")?;
        let metering = Metering { enabled: section.read("enabled", Self::flag).unwrap_or(true) };
        section.end();
        Some(metering)
    }

    fn privacy(&self, field: &Field<'t>) -> Option<PrivacyRules> {
        let form = "As in `privacy: {detectors: {phone: false}, words: [Bluebird]}`.";
        let mut section = self.section(field, form)?;
        let mut rules = PrivacyRules::on();
        if let Some(detect) = section.read("detect", Self::flag) {
            rules.detect = detect;
        }
        rules.detectors = section.read("detectors", Self::detectors).unwrap_or_default();
        rules.patterns = section.read("patterns", Self::patterns).unwrap_or_default();
        let words = section.field("words");
        if let Some(words) = &words {
            rules.words = self.words(words);
        }
        section.end();
        Some(rules)
    }

    fn detectors(&self, field: &Field<'t>) -> Option<IndexMap<Detector, bool>> {
        let mut switches = IndexMap::new();
        let known: Vec<_> = Detector::ALL.iter().map(|detector| detector.as_str()).collect();
        let form = "As in `detectors: {phone: false, ip-address: true}`.";
        for (key, node) in self.entries(field, form)? {
            let entry = self.child(field, key, node);
            let Ok(detector) = key.name.parse::<Detector>() else {
                let known = known.join(", ");
                let help = match detector_meant(&key.name) {
                    Some(name) => format!("Did you mean `{name}`? There are: {known}."),
                    None => format!("There are: {known}. Your own go below `patterns:`."),
                };
                let message = format!("{} is no detector", quote(&key.name));
                self.add(Place::of(key), &field.path, &message, &help);
                continue;
            };
            if let Some(switch) = self.flag(&entry) {
                switches.insert(detector, switch);
            }
        }
        Some(switches)
    }

    fn patterns(&self, field: &Field<'t>) -> Option<IndexMap<String, Pattern>> {
        let form = r"As in `patterns: {project-code: 'PRJ-\d{6}'}`.";
        let named = self.named(field, form, ProviderName::new, |entry, name, _| {
            let (place, pattern) = self.pattern(&entry)?;
            // Each alone, so that each mistake is shown at its place.
            let rules = PrivacyRules {
                patterns: IndexMap::from([(name.to_string(), pattern.clone())]),
                ..PrivacyRules::on()
            };
            match Detectors::compile(&rules) {
                Ok(_) => Some(pattern),
                Err(problem) => {
                    let message = match problem {
                        PatternError::Bad { reason, .. } => {
                            format!("no regular expression: {reason}")
                        }
                        PatternError::MatchesNothing { .. } => {
                            "it matches the empty text, so it would find something everywhere".into()
                        }
                        problem => problem.to_string(),
                    };
                    self.report(
                        &place,
                        message,
                        "The syntax is that of docs.rs/regex. Single quotes keep backslashes as they are.",
                    );
                    None
                }
            }
        });
        if named.len() > privacy::MAX_PATTERNS {
            let message = PatternError::TooManyPatterns.to_string();
            self.report(field, message, "Join some with `|`.");
            return None;
        }
        Some(named.into_iter().map(|(name, pattern)| (name.to_string(), pattern)).collect())
    }

    /// A pattern, and the field in which its text stands.
    fn pattern(&self, field: &Field<'t>) -> Option<(Field<'t>, Pattern)> {
        let form = r"As in `'PRJ-\d{6}'`, or `{pattern: 'PRJ-\d{6}', context: [project]}`.";
        if !matches!(field.node.value, Value::Map(_)) {
            let pattern = self.text(field, form)?.to_owned();
            return Some((field.clone(), Pattern { pattern, context: Vec::new() }));
        }
        let mut section = self.section(field, form)?;
        let written = section.field("pattern");
        let context = section.field("context");
        section.end();
        let Some(written) = written else {
            self.report(field, "no `pattern`", form);
            return None;
        };
        let pattern = self.text(&written, form)?.to_owned();
        let context = context.map(|context| self.words(&context)).unwrap_or_default();
        Some((written, Pattern { pattern, context }))
    }

    fn words(&self, field: &Field<'t>) -> Vec<String> {
        let form = "As in `words: [Bluebird, \"Project X\"]`.";
        let items = self.items(field, form);
        if items.len() > privacy::MAX_WORDS {
            let message = PatternError::TooManyWords.to_string();
            self.report(field, message, "Use `patterns:` for whole families of words.");
            return Vec::new();
        }
        let words = items.iter().filter_map(|item| {
            let word = self.text(item, form)?.trim();
            let good = (1..=privacy::MAX_WORD).contains(&word.len())
                && word.contains(char::is_alphanumeric);
            if !good {
                let form =
                    format!("A word has 1 to {} bytes and a letter or digit.", privacy::MAX_WORD);
                self.report(item, "not a word to look for", form);
            }
            good.then(|| word.to_owned())
        });
        words.collect()
    }
}

/// The built-in detector whose name was probably meant.
fn detector_meant(name: &str) -> Option<&'static str> {
    let plain = name.to_ascii_lowercase().replace(['_', ' '], "-");
    let meant = match plain.as_str() {
        "credit-card" | "card" | "pan" => "payment-card",
        "ssn" => "us-ssn",
        "nino" => "uk-nino",
        "nhs" => "uk-nhs",
        "bsn" => "nl-bsn",
        "cpf" => "br-cpf",
        "pesel" => "pl-pesel",
        "dni" | "nie" => "es-dni",
        "aadhaar" => "in-aadhaar",
        "ahv" => "ch-ahv",
        "ip" | "ipv4" => "ip-address",
        "dob" | "birthday" => "date-of-birth",
        "jwt" | "token" | "api-key" | "secret" | "secrets" => "access-token",
        "mail" | "e-mail" => "email",
        "telephone" => "phone",
        _ => {
            let names = Detector::ALL.iter().map(|detector| detector.as_str());
            return names
                .filter(|_| plain.len() <= 40)
                .map(|known| (strsim::damerau_levenshtein(&plain, known), known))
                .filter(|(distance, known)| *distance <= known.len() / 3)
                .min_by_key(|(distance, _)| *distance)
                .map(|(_, known)| known);
        }
    };
    Some(meant)
}

/// The known name that was probably meant.
fn suggestion<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = name.to_ascii_lowercase().replace(['-', ' '], "_");
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == plain).map(|(_, ours)| *ours);
    if let Some(ours) = synonym
        && let Some(found) = known.iter().find(|known| **known == ours)
    {
        return Some(found);
    }
    // Long names aren't slips of ours, and comparing them costs.
    if plain.len() > 40 {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&plain, known), *known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
