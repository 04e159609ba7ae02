//! SHOW.

use super::{Front, Parse};
use crate::ast::{ObjectKind, Show, ShowFilter, ShowKind, ShowObjects, Statement};

impl Front<'_> {
    pub(super) fn show(&mut self) -> Parse<Statement> {
        self.expect("SHOW")?;
        if self.accept(&["CREATE"]) {
            let Some(kind) = self.object_kind() else {
                return self.unsupported_after("SHOW CREATE");
            };
            let name = self.object_name()?;
            return Ok(Statement::Show(Show::Create { kind, name }));
        }
        let settings: [(&[&str], &str); 3] = [
            (&["TIME", "ZONE"], "timezone"),
            (
                &["TRANSACTION", "ISOLATION", "LEVEL"],
                "transaction_isolation",
            ),
            (&["SESSION", "AUTHORIZATION"], "session_authorization"),
        ];
        for (words, name) in settings {
            if self.accept(words) {
                return Ok(Statement::Show(Show::Variable(name.to_owned())));
            }
        }
        if self.accept(&["ALL"]) {
            return Ok(Statement::Show(Show::All));
        }
        match self.show_kind() {
            Some(kind) => Ok(Statement::Show(Show::Objects(self.show_objects(kind)?))),
            None => Ok(Statement::Show(Show::Variable(self.variable_name()?))),
        }
    }

    fn show_kind(&mut self) -> Option<ShowKind> {
        let kinds: [(&[&str], ShowKind); 14] = [
            (&["TABLES"], ShowKind::Tables),
            (&["VIEWS"], ShowKind::Views),
            (&["MATERIALIZED", "VIEWS"], ShowKind::MaterializedViews),
            (&["INDEXES"], ShowKind::Indexes),
            (&["INDICES"], ShowKind::Indexes),
            (&["COLUMNS"], ShowKind::Columns),
            (&["SCHEMAS"], ShowKind::Schemas),
            (&["DATABASES"], ShowKind::Databases),
            (&["CLUSTERS"], ShowKind::Clusters),
            (&["CLUSTER", "REPLICAS"], ShowKind::ClusterReplicas),
            (&["NODES"], ShowKind::Nodes),
            (&["SOURCES"], ShowKind::Sources),
            (&["OBJECTS"], ShowKind::Objects),
            (&["ROLES"], ShowKind::Roles),
        ];
        kinds
            .into_iter()
            .find(|(words, _)| self.accept(words))
            .map(|(_, kind)| kind)
    }

    fn show_objects(&mut self, kind: ShowKind) -> Parse<ShowObjects> {
        let mut show = ShowObjects {
            kind,
            from: None,
            in_cluster: None,
            filter: None,
        };
        loop {
            if self.accept(&["IN", "CLUSTER"]) {
                show.in_cluster = Some(self.ident()?);
            } else if self.accept(&["FROM"]) || self.accept(&["ON"]) || self.accept(&["IN"]) {
                show.from = Some(self.object_name()?);
            } else if self.accept(&["LIKE"]) {
                show.filter = Some(ShowFilter::Like(self.string()?));
            } else if self.accept(&["WHERE"]) {
                show.filter = Some(ShowFilter::Where(self.expr()?));
            } else {
                break;
            }
        }
        if kind == ShowKind::Columns && show.from.is_none() {
            return Err(self.unexpected());
        }
        Ok(show)
    }
}

impl ObjectKind {
    /// Whether SHOW CREATE has something to show.
    pub fn has_create_sql(self) -> bool {
        match self {
            ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::MaterializedView
            | ObjectKind::Index
            | ObjectKind::Source
            | ObjectKind::Cluster => true,
            ObjectKind::Schema | ObjectKind::Database | ObjectKind::Role => false,
        }
    }
}
