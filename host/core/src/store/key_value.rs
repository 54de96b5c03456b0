//! What the library asks of a database, and nothing more.

use std::ops::ControlFlow;

use super::StoreError;

/// The longest key, in bytes: a provider, a field and an origin make up the longest one used.
pub const MAX_KEY: usize = 1024;

/// The largest value, in bytes. The largest used is the vault's roster at 41 KiB.
pub const MAX_VALUE: usize = 64 * 1024;

/// The named key spaces. Their names are on disk: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// One row per attempt, by time.
    Usage,
    /// Sealed credentials.
    Keys,
    /// The audit log, by number.
    Audit,
    /// Single records of any module, under `module/name`.
    Meta,
}

impl Tree {
    pub const ALL: [Self; 4] = [Self::Usage, Self::Keys, Self::Audit, Self::Meta];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Keys => "keys",
            Self::Audit => "audit",
            Self::Meta => "meta",
        }
    }
}

/// Changes that happen together or not at all, across all trees, also when the process is killed.
/// Later changes to the same key win.
#[derive(Clone, Default)]
pub struct Batch {
    pub(super) changes: Vec<Change>,
}

#[derive(Clone)]
pub(super) struct Change {
    pub tree: Tree,
    pub key: Vec<u8>,
    /// `None` removes the key.
    pub value: Option<Vec<u8>>,
}

impl Batch {
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change { tree, key: key.into(), value: Some(value.into()) });
    }

    pub fn remove(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.changes.push(Change { tree, key: key.into(), value: None });
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// # Errors
    /// [`StoreError::TooLarge`] for a key beyond [`MAX_KEY`] or a value beyond [`MAX_VALUE`].
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for change in &self.changes {
            let (key, value) = (change.key.len(), change.value.as_ref().map_or(0, Vec::len));
            if key > MAX_KEY {
                return Err(StoreError::TooLarge { what: "a key", size: key, limit: MAX_KEY });
            }
            if value > MAX_VALUE {
                return Err(StoreError::TooLarge {
                    what: "a value",
                    size: value,
                    limit: MAX_VALUE,
                });
            }
        }
        Ok(())
    }
}

/// Keys from `from` up to but not including `to`.
#[derive(Clone, Debug, Default)]
pub struct KeyRange {
    pub from: Vec<u8>,
    /// `None` goes to the end.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn between(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self { from: from.into(), to: Some(to.into()) }
    }

    pub fn starting_at(from: impl Into<Vec<u8>>) -> Self {
        Self { from: from.into(), to: None }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while let Some(last) = to.pop() {
            if let Some(next) = last.checked_add(1) {
                to.push(next);
                return Self::between(prefix, to);
            }
        }
        Self::starting_at(prefix)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Sees one key and value; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A durable ordered map of bytes for each [`Tree`]. All calls block.
pub trait KeyValue: Send + Sync + 'static {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Applies the whole batch or nothing of it. Not durable before [`KeyValue::sync`].
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// Visits the keys of `range` one by one, in constant memory.
    fn scan(
        &self,
        tree: Tree,
        range: &KeyRange,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;

    /// Returns when everything written before the call is on the disk itself, safe from a crash of
    /// the process, the system and the power supply.
    fn sync(&self) -> Result<(), StoreError>;

    fn put(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(tree, key, value);
        self.write(batch)
    }

    fn remove(&self, tree: Tree, key: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.remove(tree, key);
        self.write(batch)
    }

    /// The first `limit` keys of `range` with their values.
    fn page(
        &self,
        tree: Tree,
        range: &KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let mut page = Vec::new();
        if limit == 0 {
            return Ok(page);
        }
        self.scan(tree, range, order, &mut |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            if page.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(KeyRange::prefix(b"ab").to.as_deref(), Some(&b"ac"[..]));
        assert_eq!(KeyRange::prefix(b"a\xff").to.as_deref(), Some(&b"b"[..]));
        assert_eq!(KeyRange::prefix(b"\xff\xff").to, None);
        assert_eq!(KeyRange::prefix(b"").to, None);
    }
}
