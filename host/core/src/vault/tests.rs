//! The vault as a whole: sources of the master key, sealed states, tampering with the store.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use tempfile::TempDir;

use super::*;
use crate::store::{DataDir, SledStore};

const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
const OTHER_HEX: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const CANARY: &str = "sk-canary-openai-0123456789abcdef0123456789abcdef";

struct Home {
    temp: TempDir,
    store: Store,
    audit: AuditLog,
}

impl Home {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = SledStore::open(&DataDir::open(temp.path()).unwrap()).unwrap();
        let store: Store = Arc::new(store);
        let audit = AuditLog::open(store.clone()).unwrap();
        Self { temp, store, audit }
    }

    fn none(&self) -> MasterKeySources {
        MasterKeySources {
            file: None,
            environment: None,
            passphrase: None,
            default_file: self.temp.path().join("master.key"),
        }
    }

    fn hex(&self, hex: &str) -> MasterKeySources {
        MasterKeySources { environment: Some(hex.into()), ..self.none() }
    }

    fn passphrase(&self, passphrase: &str) -> MasterKeySources {
        MasterKeySources { passphrase: Some(passphrase.into()), ..self.none() }
    }

    fn open(&self, sources: &MasterKeySources) -> Vault {
        Vault::open(self.store.clone(), self.audit.clone(), sources).unwrap()
    }

    fn vault(&self) -> Vault {
        self.open(&self.hex(HEX))
    }

    /// Everything in the store, to see that nothing was touched.
    fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let page =
            |tree| self.store.page(tree, &KeyRange::all(), Order::Ascending, usize::MAX).unwrap();
        Tree::ALL.into_iter().flat_map(page).collect()
    }

    fn key_file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.temp.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn slot(provider: &str, origin: &str) -> Slot {
    Slot::new(ProviderName::new(provider).unwrap(), "api-key", &Url::parse(origin).unwrap())
        .unwrap()
}

fn openai() -> Slot {
    slot("openai", "https://api.openai.test/v1")
}

fn secret(vault: &Vault, slot: &Slot) -> Option<String> {
    vault.get(slot).unwrap().map(|secret| secret.expose_secret().to_owned())
}

fn reason(vault: &Vault) -> SealReason {
    match vault.state() {
        VaultState::Sealed(reason) => reason,
        VaultState::Open { key } => panic!("opened with {key}"),
    }
}

#[test]
fn a_stored_key_is_there_after_reopening_for_its_own_slot_only() {
    let home = Home::new();
    home.vault().set(&openai(), &CANARY.into(), "cli").unwrap();
    let vault = home.vault();
    assert_eq!(secret(&vault, &openai()).as_deref(), Some(CANARY));
    assert_eq!(secret(&vault, &slot("openai", "https://api.evil.test/v1")), None);
    assert_eq!(secret(&vault, &slot("openai2", "https://api.openai.test/v1")), None);
}

#[test]
fn a_key_can_be_replaced_and_removed() {
    let home = Home::new();
    let vault = home.vault();
    vault.set(&openai(), &"first".into(), "cli").unwrap();
    let created = vault.list()[0].created_ms;
    vault.set(&openai(), &"second".into(), "cli").unwrap();
    assert_eq!(secret(&vault, &openai()).as_deref(), Some("second"));
    assert_eq!(vault.list().len(), 1);
    assert_eq!(vault.list()[0].created_ms, created);
    assert!(vault.remove(&openai(), "cli").unwrap());
    assert!(!vault.remove(&openai(), "cli").unwrap());
    assert_eq!(secret(&vault, &openai()), None);
    assert_eq!(secret(&home.vault(), &openai()), None);
}

#[test]
fn every_change_is_in_the_audit_log_without_the_key() {
    let home = Home::new();
    let vault = home.vault();
    vault.set(&openai(), &CANARY.into(), "cli").unwrap();
    vault.remove(&openai(), "api").unwrap();
    let entries = home.audit.read(1, 10).unwrap();
    let told: Vec<_> = entries.iter().map(|e| (e.actor.as_str(), e.action)).collect();
    assert_eq!(told, [("cli", Action::KeySet), ("api", Action::KeyRemoved)]);
    assert_eq!(entries[0].subject, "openai/api-key");
    assert!(entries[0].detail.contains("https://api.openai.test/v1"));
    home.audit.verify().unwrap();
}

#[test]
fn the_key_is_nowhere_on_the_disk_in_a_list_or_in_an_error() {
    let home = Home::new();
    let vault = home.vault();
    vault.set(&openai(), &CANARY.into(), "cli").unwrap();
    for (_, value) in home.dump() {
        assert!(!value.windows(9).any(|w| w == b"sk-canary"));
    }
    let log = fs::read(home.temp.path().join("store/db")).unwrap();
    assert!(!log.windows(9).any(|w| w == b"sk-canary"));
    assert!(!format!("{:?}", vault.list()).contains("canary"));
    assert!(!format!("{:?}", vault.get(&openai())).contains("canary"));
    let refused = vault.set(&openai(), &"sk-canary\n".into(), "cli").unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("canary"));
}

#[test]
fn what_could_not_stand_in_a_header_is_refused() {
    let home = Home::new();
    let vault = home.vault();
    let long = "x".repeat(MAX_SECRET + 1);
    for (bad, why) in [
        ("", BadSecret::Empty),
        ("a\nb", BadSecret::ControlCharacter),
        ("a\r\nx-evil: 1", BadSecret::ControlCharacter),
        ("a\0", BadSecret::ControlCharacter),
        (" a", BadSecret::OuterSpace),
        ("a ", BadSecret::OuterSpace),
        (&long, BadSecret::TooLong),
    ] {
        let refused = vault.set(&openai(), &bad.into(), "cli");
        assert!(matches!(refused, Err(VaultError::BadSecret(found)) if found == why));
    }
    assert!(vault.list().is_empty());
    assert_eq!(home.audit.head().seq, 0);
}

#[test]
fn a_slot_has_one_spelling() {
    assert_eq!(
        slot("openai", "https://API.openai.test:443/v1/"),
        slot("openai", "https://api.openai.test/v1")
    );
    assert_eq!(slot("o", "https://x.test/a/../v1"), slot("o", "https://x.test/v1"));
    let name = ProviderName::new("openai").unwrap();
    for bad in [
        "ftp://x.test/",
        "https://user@x.test/",
        "https://:password@x.test/",
        "https://x.test/?a=b",
        "https://x.test/#a",
        "data:text/plain,x",
    ] {
        let url = Url::parse(bad).unwrap();
        assert!(Slot::new(name.clone(), "api-key", &url).is_err(), "{bad}");
    }
    for bad in ["", "a b", "a\0b", "ä", &"x".repeat(65)] {
        let url = Url::parse("https://x.test").unwrap();
        assert!(Slot::new(name.clone(), bad, &url).is_err(), "{bad}");
    }
}

// ------------------------------------------------------------------ sealed states

#[test]
fn without_a_master_key_the_vault_is_sealed_and_says_what_to_do() {
    let home = Home::new();
    let vault = home.open(&home.none());
    let error = vault.set(&openai(), &CANARY.into(), "cli").unwrap_err();
    assert!(error.to_string().contains("keyward key init"), "{error}");
    assert!(error.to_string().contains("KEYWARD_MASTER_KEY"), "{error}");
    assert_eq!(Failure::from(vault.get(&openai()).unwrap_err()).kind, FailureKind::Sealed);
    assert!(home.dump().is_empty());
    assert!(!home.temp.path().join("master.key").exists(), "no key is made by itself");
}

#[test]
fn a_wrong_master_key_is_told_apart_and_changes_nothing() {
    let home = Home::new();
    home.vault().set(&openai(), &CANARY.into(), "cli").unwrap();
    let before = home.dump();
    let vault = home.open(&home.hex(OTHER_HEX));
    assert!(matches!(reason(&vault), SealReason::WrongMasterKey { .. }));
    assert!(matches!(vault.get(&openai()), Err(VaultError::Sealed(_))));
    assert!(vault.set(&openai(), &"other".into(), "cli").is_err());
    assert!(vault.remove(&openai(), "cli").is_err());
    assert_eq!(vault.list().len(), 1, "what there is can be seen");
    assert_eq!(home.dump(), before);
    assert_eq!(secret(&home.vault(), &openai()).as_deref(), Some(CANARY));
}

#[test]
fn a_wrong_passphrase_is_told_apart_and_the_right_one_opens_again() {
    let home = Home::new();
    let right = home.passphrase("correct horse battery");
    home.open(&right).set(&openai(), &CANARY.into(), "cli").unwrap();
    let wrong = home.open(&home.passphrase("incorrect horse"));
    assert!(matches!(reason(&wrong), SealReason::WrongMasterKey { found: KeyOrigin::Passphrase }));
    assert_eq!(secret(&home.open(&right), &openai()).as_deref(), Some(CANARY));
}

#[test]
fn opening_an_empty_vault_writes_nothing() {
    let home = Home::new();
    home.vault();
    home.open(&home.passphrase("a mistyped passphrase"));
    assert!(home.dump().is_empty());
}

#[test]
fn a_note_on_the_passphrase_that_asks_for_too_much_is_refused() {
    let home = Home::new();
    home.open(&home.passphrase("correct horse")).set(&openai(), &CANARY.into(), "cli").unwrap();
    for bad in [
        r#"{"algorithm":"argon2id","version":19,"memory_kib":4294967295,"passes":3,"lanes":1,"salt":"0011223344556677"}"#,
        r#"{"algorithm":"argon2id","version":19,"memory_kib":8,"passes":4000000000,"lanes":1,"salt":"0011223344556677"}"#,
        r#"{"algorithm":"argon2d","version":19,"memory_kib":8,"passes":1,"lanes":1,"salt":"0011223344556677"}"#,
        "not json",
    ] {
        home.store.put(Tree::Meta, master::KDF, bad.as_bytes()).unwrap();
        let vault = home.open(&home.passphrase("correct horse"));
        assert!(matches!(reason(&vault), SealReason::Unusable(_)), "{bad}");
    }
}

#[test]
fn a_damaged_or_missing_roster_seals_the_vault() {
    let home = Home::new();
    home.vault().set(&openai(), &CANARY.into(), "cli").unwrap();
    let good = home.store.get(Tree::Meta, roster::KEY).unwrap().unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        home.store.put(Tree::Meta, roster::KEY, &bad).unwrap();
        let vault = home.vault();
        reason(&vault);
        assert!(vault.set(&openai(), &"other".into(), "cli").is_err());
    }
    home.store.remove(Tree::Meta, roster::KEY).unwrap();
    assert!(matches!(reason(&home.vault()), SealReason::RosterDamaged));
    home.store.put(Tree::Meta, roster::KEY, &good).unwrap();
    assert_eq!(secret(&home.vault(), &openai()).as_deref(), Some(CANARY));
}

// ------------------------------------------------------------------ tampering with records

#[test]
fn a_key_copied_to_another_provider_does_not_open() {
    let home = Home::new();
    let evil = slot("evil", "https://api.evil.test");
    let vault = home.vault();
    vault.set(&openai(), &CANARY.into(), "cli").unwrap();
    vault.set(&evil, &"its own".into(), "cli").unwrap();
    let record = home.store.get(Tree::Keys, &openai().key()).unwrap().unwrap();
    home.store.put(Tree::Keys, &evil.key(), &record).unwrap();
    let vault = home.vault();
    assert!(matches!(vault.get(&evil), Err(VaultError::Tampered { .. })));
    assert_eq!(secret(&vault, &openai()).as_deref(), Some(CANARY), "the others still work");

    let unknown = slot("unknown", "https://api.evil.test");
    home.store.put(Tree::Keys, &unknown.key(), &record).unwrap();
    assert!(matches!(home.vault().get(&unknown), Err(VaultError::Tampered { .. })));
}

#[test]
fn an_older_version_put_back_is_noticed() {
    let home = Home::new();
    let vault = home.vault();
    vault.set(&openai(), &"leaked and replaced".into(), "cli").unwrap();
    let old = home.store.get(Tree::Keys, &openai().key()).unwrap().unwrap();
    vault.set(&openai(), &"new".into(), "cli").unwrap();
    home.store.put(Tree::Keys, &openai().key(), &old).unwrap();
    let error = home.vault().get(&openai()).unwrap_err();
    assert!(error.to_string().contains("isn't the one last set"), "{error}");

    vault.remove(&openai(), "cli").unwrap();
    home.store.put(Tree::Keys, &openai().key(), &old).unwrap();
    assert!(matches!(home.vault().get(&openai()), Err(VaultError::Tampered { .. })));

    let vault = home.vault();
    vault.set(&openai(), &"set again".into(), "cli").unwrap();
    assert_eq!(secret(&vault, &openai()).as_deref(), Some("set again"));
    home.store.put(Tree::Keys, &openai().key(), &old).unwrap();
    assert!(matches!(home.vault().get(&openai()), Err(VaultError::Tampered { .. })));
}

#[test]
fn a_removed_record_is_noticed() {
    let home = Home::new();
    home.vault().set(&openai(), &CANARY.into(), "cli").unwrap();
    home.store.remove(Tree::Keys, &openai().key()).unwrap();
    let vault = home.vault();
    let error = vault.get(&openai()).unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert_eq!(secret(&vault, &slot("other", "https://x.test")), None);
}

#[test]
fn any_changed_bit_of_a_record_is_noticed_and_the_key_can_be_set_again() {
    let home = Home::new();
    home.vault().set(&openai(), &"short".into(), "cli").unwrap();
    let good = home.store.get(Tree::Keys, &openai().key()).unwrap().unwrap();
    for bit in (0..good.len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        home.store.put(Tree::Keys, &openai().key(), &bad).unwrap();
        let found = home.vault().get(&openai());
        assert!(matches!(found, Err(VaultError::Tampered { .. })), "bit {bit}");
    }
    home.store.put(Tree::Keys, &openai().key(), b"").unwrap();
    let vault = home.vault();
    assert!(matches!(vault.get(&openai()), Err(VaultError::Tampered { .. })));
    vault.set(&openai(), &"again".into(), "cli").unwrap();
    assert_eq!(secret(&vault, &openai()).as_deref(), Some("again"));
}

#[test]
fn the_vault_has_a_bound() {
    let mut roster = Roster::default();
    for n in 0..MAX_KEYS {
        roster.insert(&slot(&format!("p{n}"), "https://x.test")).unwrap();
    }
    assert!(roster.insert(&slot("one-more", "https://x.test")).is_none());
    assert!(roster.insert(&slot("p1", "https://x.test")).is_some(), "a replacement fits");
    let kek = Kek::derive(&MasterKey::of_bytes([1; 32]));
    assert!(roster.seal(&kek).unwrap().len() < crate::store::MAX_VALUE);
}

// ------------------------------------------------------------------ master key sources

#[test]
fn the_first_source_that_is_there_counts() {
    let home = Home::new();
    let key_of = |sources: &MasterKeySources| match home.open(sources).state() {
        VaultState::Open { key } => Some(key),
        VaultState::Sealed(_) => None,
    };
    let mut sources = home.none();
    assert_eq!(key_of(&sources), None);
    let default = home.key_file("master.key", HEX, 0o600);
    assert_eq!(key_of(&sources), Some(KeyOrigin::File(default)));
    sources.passphrase = Some("long enough".into());
    assert_eq!(key_of(&sources), Some(KeyOrigin::Passphrase));
    sources.environment = Some(HEX.into());
    assert_eq!(key_of(&sources), Some(KeyOrigin::Environment));
    let named = home.key_file("named", &format!("{HEX}\n"), 0o400);
    sources.file = Some(named.clone());
    assert_eq!(key_of(&sources), Some(KeyOrigin::File(named)));
}

#[test]
fn a_source_that_cannot_be_used_is_never_passed_over() {
    let home = Home::new();
    let why = |sources: &MasterKeySources| match reason(&home.open(sources)) {
        SealReason::Unusable(error) => error.to_string(),
        other => panic!("{other}"),
    };
    home.key_file("master.key", HEX, 0o600);
    let file = |path: PathBuf| MasterKeySources { file: Some(path), ..home.hex(HEX) };
    assert!(why(&file(home.temp.path().join("absent"))).contains("absent"));
    for mode in [0o640, 0o604, 0o620, 0o666] {
        assert!(why(&file(home.key_file("open", HEX, mode))).contains("chmod 600"), "{mode:o}");
    }
    assert!(why(&file(home.temp.path().to_owned())).contains("isn't a file"));
    for bad in ["", "00", &HEX[1..], &format!("{HEX}00"), &HEX.replace('0', "g"), &"é".repeat(32)]
    {
        assert!(why(&file(home.key_file("bad", bad, 0o600))).contains("64 hex digits"), "{bad}");
        let error = why(&home.hex(if bad.is_empty() { "x" } else { bad }));
        assert!(error.contains("64 hex digits"), "{bad}");
        assert!(bad.len() < 4 || !error.contains(&bad[..4]), "{error}");
    }
    assert!(why(&home.passphrase("short")).contains("shorter"));
}

#[test]
fn a_created_key_file_is_private_works_and_is_never_overwritten() {
    let home = Home::new();
    let path = home.temp.path().join("master.key");
    MasterKey::create_file(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content.len(), 65);
    home.open(&home.none()).set(&openai(), &CANARY.into(), "cli").unwrap();
    assert!(matches!(MasterKey::create_file(&path), Err(MasterKeyError::Exists(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    assert_eq!(secret(&home.open(&home.none()), &openai()).as_deref(), Some(CANARY));
}

// ------------------------------------------------------------------ other key sources

fn resolver(home: &Home) -> KeyResolver {
    KeyResolver::new(home.vault())
}

async fn resolve(resolver: &KeyResolver, source: KeySource) -> Result<String, KeyError> {
    let secret = resolver.resolve(&source, &openai()).await?;
    Ok(secret.expose_secret().to_owned())
}

#[tokio::test]
async fn a_key_from_the_vault_that_is_missing_or_bound_elsewhere_says_so() {
    let home = Home::new();
    let keys = resolver(&home);
    let error = resolve(&keys, KeySource::Vault).await.unwrap_err();
    assert!(error.to_string().contains("keyward key set openai"), "{error}");
    keys.vault().set(&slot("openai", "https://old.test"), &CANARY.into(), "cli").unwrap();
    let error = resolve(&keys, KeySource::Vault).await.unwrap_err();
    assert!(error.to_string().contains("https://old.test"), "{error}");
    assert_eq!(Failure::from(error).kind, FailureKind::Authentication);
    keys.vault().set(&openai(), &CANARY.into(), "cli").unwrap();
    assert_eq!(resolve(&keys, KeySource::Vault).await.unwrap(), CANARY);
}

#[tokio::test]
async fn a_key_from_a_variable() {
    let home = Home::new();
    let keys = resolver(&home);
    let error = resolve(&keys, KeySource::Environment("KEYWARD_TEST_UNSET".into())).await;
    assert!(matches!(error, Err(KeyError::NotSet(_))));
    // Set by cargo for every test, and free of control characters.
    let value = resolve(&keys, KeySource::Environment("CARGO_PKG_NAME".into())).await.unwrap();
    assert_eq!(value, env!("CARGO_PKG_NAME"));
}

#[tokio::test]
async fn a_key_from_a_file_follows_the_file() {
    let home = Home::new();
    let keys = resolver(&home);
    let path = home.temp.path().join("key");
    let source = || KeySource::File(path.clone().into());
    let error = resolve(&keys, source()).await.unwrap_err();
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");

    fs::write(&path, "first\n").unwrap();
    assert_eq!(resolve(&keys, source()).await.unwrap(), "first");
    fs::write(&path, "again\r\n").unwrap();
    assert_eq!(resolve(&keys, source()).await.unwrap(), "first", "not looked at for a second");
    tokio::time::sleep(source::RECHECK).await;
    assert_eq!(resolve(&keys, source()).await.unwrap(), "again", "same length, other content");

    // As Kubernetes does it: another file takes the place.
    let other = home.temp.path().join("key.new");
    fs::write(&other, "third").unwrap();
    fs::rename(&other, &path).unwrap();
    tokio::time::sleep(source::RECHECK).await;
    assert_eq!(resolve(&keys, source()).await.unwrap(), "third");

    fs::remove_file(&path).unwrap();
    tokio::time::sleep(source::RECHECK).await;
    assert!(resolve(&keys, source()).await.is_err(), "a deleted key is not used on");
}

#[tokio::test]
async fn a_file_that_holds_no_key_is_a_clear_error() {
    let home = Home::new();
    let keys = resolver(&home);
    for (name, content, why) in [
        ("empty", &b""[..], "empty"),
        ("line", b"\n", "empty"),
        ("two", b"sk-canary\nother\n", "control character"),
        ("header", b"sk-canary\r\nx-evil: 1", "control character"),
        ("binary", b"\xff\xfe", "UTF-8"),
        ("space", b"sk-canary ", "space"),
        ("long", &[b'x'; MAX_SECRET + 10], "longer"),
    ] {
        let path = home.temp.path().join(name);
        fs::write(&path, content).unwrap();
        let error = resolve(&keys, path.into()).await.unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("canary"), "{name}: {error}");
    }
    let directory = resolve(&keys, home.temp.path().to_owned().into()).await.unwrap_err();
    assert!(directory.to_string().contains("isn't a file"), "{directory}");
}

/// Run by hand: `cargo test -p keyward --release vault_get_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn vault_get_costs() {
    let home = Home::new();
    let vault = home.vault();
    for n in 0..50 {
        let slot = slot(&format!("provider-{n}"), "https://api.openai.test/v1");
        vault.set(&slot, &CANARY.into(), "cli").unwrap();
    }
    let slot = slot("provider-25", "https://api.openai.test/v1");
    let cpu = || -> u64 {
        let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    };
    let begun = cpu();
    let rounds = 100_000;
    for _ in 0..rounds {
        std::hint::black_box(vault.get(&slot).unwrap());
    }
    println!("Vault::get: {} ns of CPU", (cpu() - begun) / rounds);
    let begun = std::time::Instant::now();
    vault.set(&slot, &CANARY.into(), "cli").unwrap();
    println!("Vault::set: {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    home.open(&home.passphrase("correct horse battery"));
    println!("Vault::open with a passphrase: {:?}", begun.elapsed());
}
