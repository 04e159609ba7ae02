//! Statements as parsed.
//!
//! Queries, expressions, table definitions and DML are sqlparser's types; the statements around them are our own, because that
//! library's statement type is closed. Every token's span has been rewritten so that `span.start.column` is the character
//! position in the whole SQL text (the first character being 1); see [`position`].

pub use sqlparser::ast as sql;
use sqlparser::ast::{DataType, Expr, Ident, ObjectName, Query};

/// The character position of a span that [`crate::parse::parse`] made; 0 if it has none.
pub fn position(span: sqlparser::tokenizer::Span) -> usize {
    if span.start.line == 0 {
        0
    } else {
        span.start.column as usize
    }
}

// Parsed once per statement: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    Query(QueryStatement),
    Insert(Box<sql::Insert>),
    Update(Box<sql::Update>),
    Delete(Box<sql::Delete>),
    CreateTable(Box<sql::CreateTable>),
    CreateView(CreateView),
    CreateIndex(CreateIndex),
    CreateCluster(CreateCluster),
    /// `ALTER CLUSTER name SET (...)`.
    AlterCluster {
        name: Ident,
        options: Vec<WithOption>,
    },
    /// ALTER NODE and DROP NODE.
    ChangeNode(ChangeNode),
    CreateJoinToken(CreateJoinToken),
    CreateSource(CreateSource),
    CreateSchema(CreateSchema),
    CreateDatabase {
        name: Ident,
        if_not_exists: bool,
    },
    Drop(Drop),
    Rename(Rename),
    Truncate(Truncate),
    Copy(Copy),
    Subscribe(Subscribe),
    Explain(Explain),
    Show(Show),
    Declare(Declare),
    Fetch(Fetch),
    /// `CLOSE name`; `None` closes all cursors.
    Close {
        name: Option<Ident>,
    },
    Prepare(Prepare),
    Execute {
        name: Ident,
        args: Vec<Expr>,
    },
    /// `DEALLOCATE name`; `None` means all.
    Deallocate {
        name: Option<Ident>,
    },
    Discard(Discard),
    Set(SetVariable),
    /// `RESET name`; `None` means all.
    Reset {
        name: Option<String>,
    },
    SetTransaction {
        modes: Vec<TransactionMode>,
        scope: TransactionScope,
    },
    Begin {
        modes: Vec<TransactionMode>,
    },
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint {
        name: Ident,
    },
    ReleaseSavepoint {
        name: Ident,
    },
    RollbackTo {
        name: Ident,
    },
    /// A statement that PostgreSQL has and which changes nothing here: `ANALYZE`, `VACUUM`.
    NoOp(NoOp),
    /// Parsed as far as needed to know what it is; planning answers 0A000.
    Unsupported {
        what: String,
        hint: Option<String>,
    },
}

/// A SELECT, VALUES or TABLE statement with the clause that says when it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryStatement {
    pub query: Box<Query>,
    pub as_of: Option<AsOf>,
}

/// `AS OF [AT LEAST] time`.
#[derive(Clone, Debug, PartialEq)]
pub struct AsOf {
    pub at_least: bool,
    pub expr: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    pub name: ObjectName,
    pub columns: Vec<Ident>,
    pub query: Box<Query>,
    /// The query's text, and the position of its first character.
    pub query_text: String,
    pub query_start: usize,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub temporary: bool,
    /// `MATERIALIZED`: maintained by a dataflow.
    pub materialized: bool,
    /// `IN CLUSTER name`, of a materialized view.
    pub cluster: Option<Ident>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateIndex {
    /// Without a name, one is made from the relation's and the columns' names.
    pub name: Option<Ident>,
    pub if_not_exists: bool,
    pub unique: bool,
    pub cluster: Option<Ident>,
    pub on: ObjectName,
    pub method: Option<Ident>,
    /// `None`: the key of `CREATE DEFAULT INDEX`, the relation's unique key or all its columns.
    pub keys: Option<Vec<Expr>>,
}

/// `name = value` or `name value` in a list of options.
#[derive(Clone, Debug, PartialEq)]
pub struct WithOption {
    /// Lower case, words joined by one space.
    pub name: String,
    pub value: Option<OptionValue>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// A word as written, case folded.
    Word(String),
    String(String),
    Number(String),
    List(Vec<OptionValue>),
    Interval(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateCluster {
    pub name: Ident,
    pub if_not_exists: bool,
    pub options: Vec<WithOption>,
}

/// `ALTER NODE n DRAIN`, `ALTER NODE n UNDRAIN`, `DROP NODE n`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeNode {
    pub node: u64,
    pub change: NodeChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    Drain,
    Undrain,
    Drop { if_exists: bool },
}

/// `CREATE JOIN TOKEN [VALID FOR 'interval']`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateJoinToken {
    /// The interval, and where it stands.
    pub valid_for: Option<(String, usize)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateSource {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub cluster: Option<Ident>,
    /// The generator after `FROM LOAD GENERATOR`, lower case.
    pub generator: String,
    pub options: Vec<WithOption>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateSchema {
    pub name: ObjectName,
    pub if_not_exists: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Table,
    View,
    MaterializedView,
    Index,
    Source,
    Schema,
    Database,
    Cluster,
    Role,
}

impl ObjectKind {
    /// As in messages and command tags, lower case.
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
            ObjectKind::Index => "index",
            ObjectKind::Source => "source",
            ObjectKind::Schema => "schema",
            ObjectKind::Database => "database",
            ObjectKind::Cluster => "cluster",
            ObjectKind::Role => "role",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Drop {
    pub kind: ObjectKind,
    pub if_exists: bool,
    pub names: Vec<ObjectName>,
    /// What depends on it goes, too. DROP DATABASE means that unless it says RESTRICT: PostgreSQL has neither word there.
    pub cascade: bool,
}

/// `ALTER kind name RENAME TO new`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rename {
    pub kind: ObjectKind,
    pub if_exists: bool,
    pub name: ObjectName,
    pub to: Ident,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Truncate {
    pub names: Vec<ObjectName>,
    pub cascade: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    pub source: CopySource,
    pub direction: CopyDirection,
    pub options: Vec<WithOption>,
    /// `COPY ... FROM ... WHERE condition`.
    pub selection: Option<Expr>,
}

// Parsed once per statement: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum CopySource {
    Table {
        name: ObjectName,
        columns: Vec<Ident>,
    },
    Query(QueryStatement),
    Subscribe(Subscribe),
    /// A DML statement with RETURNING.
    Statement(Box<Statement>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    FromStdin,
    ToStdout,
    /// A file or program of the server: refused.
    Server,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    pub relation: SubscribeRelation,
    pub options: Vec<WithOption>,
    pub as_of: Option<AsOf>,
    pub up_to: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SubscribeRelation {
    Name(ObjectName),
    Query(Box<Query>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    pub stage: ExplainStage,
    pub format: ExplainFormat,
    pub analyze: bool,
    pub target: ExplainTarget,
}

// Parsed once per statement: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum ExplainTarget {
    Statement(Box<Statement>),
    View(ObjectName),
    MaterializedView(ObjectName),
    Index(ObjectName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainStage {
    /// The plan before any rewrite: subqueries still nested.
    Raw,
    /// The plan without subqueries, before any rewrite.
    Decorrelated,
    Optimized,
    Physical,
    Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainFormat {
    Text,
    Json,
}

// Parsed once per statement: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// A session setting.
    Variable(String),
    All,
    /// `SHOW CREATE kind name`.
    Create {
        kind: ObjectKind,
        name: ObjectName,
    },
    Objects(ShowObjects),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ShowObjects {
    pub kind: ShowKind,
    /// `FROM schema`, or `ON relation` / `FROM relation` for indexes and columns.
    pub from: Option<ObjectName>,
    pub in_cluster: Option<Ident>,
    pub filter: Option<ShowFilter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowKind {
    Tables,
    Views,
    MaterializedViews,
    Indexes,
    Columns,
    Schemas,
    Databases,
    Clusters,
    ClusterReplicas,
    Nodes,
    Sources,
    Objects,
    Roles,
}

// Parsed once per statement: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum ShowFilter {
    Like(String),
    Where(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Declare {
    pub name: Ident,
    pub hold: bool,
    pub binary: bool,
    /// `Some(true)` for SCROLL, `Some(false)` for NO SCROLL.
    pub scroll: Option<bool>,
    pub source: CursorSource,
}

// Parsed once per statement: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum CursorSource {
    Query(QueryStatement),
    Subscribe(Subscribe),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    pub name: Ident,
    pub direction: FetchDirection,
    /// `MOVE`: the rows are skipped, not returned.
    pub is_move: bool,
    /// `WITH (TIMEOUT = '2s')`, as written.
    pub timeout: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchDirection {
    /// At most this many rows onward.
    Forward(u64),
    All,
    /// Any direction that is not onward: refused unless the cursor scrolls.
    Backward,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Prepare {
    pub name: Ident,
    pub types: Vec<DataType>,
    pub statement: Box<Statement>,
    /// The SQL text of `statement`.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionScope {
    /// SET TRANSACTION.
    Current,
    /// SET SESSION CHARACTERISTICS AS TRANSACTION.
    Session,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SetVariable {
    pub name: String,
    /// Only until the end of the transaction.
    pub local: bool,
    pub value: SetValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SetValue {
    Default,
    /// The list of values as written, quotes removed, words case-folded unless quoted.
    Values(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionMode {
    ReadOnly,
    ReadWrite,
    Isolation(IsolationLevel),
    Deferrable(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
    StrictSerializable,
}

impl IsolationLevel {
    /// The value of `transaction_isolation`.
    pub fn name(self) -> &'static str {
        match self {
            IsolationLevel::ReadUncommitted => "read uncommitted",
            IsolationLevel::ReadCommitted => "read committed",
            IsolationLevel::RepeatableRead => "repeatable read",
            IsolationLevel::Serializable => "serializable",
            IsolationLevel::StrictSerializable => "strict serializable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoOp {
    /// The command tag to answer with.
    pub tag: &'static str,
    pub warning: Option<String>,
}
