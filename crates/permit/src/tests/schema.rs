//! The schemas that editors read are those of the shapes that are parsed.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};

use crate::shape::*;

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Editors for TOML hold dates against these two formats.
        json_schema!({ "type": "string", "anyOf": [{ "format": "date" }, { "format": "date-time" }] })
    }
}

fn schema_of<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

/// Editors complete and explain what this version understands. `UPDATE_SCHEMA=1 cargo test -p sulku-permit` writes the files anew.
#[test]
fn the_committed_schemas_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/schema");
    let schemas = [
        ("permit", schema_of::<Document>()),
        ("image", schema_of::<ImageFile>()),
        ("dataset", schema_of::<DatasetFile>()),
        ("network", schema_of::<NetworkFile>()),
        ("calendar", schema_of::<CalendarFile>()),
        ("authority", schema_of::<AuthorityFile>()),
        ("halt", schema_of::<HaltFile>()),
    ];
    for (name, schema) in schemas {
        let file = folder.join(format!("{name}.schema.json"));
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(&file, &schema).expect("written");
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == schema, "{} is stale; run UPDATE_SCHEMA=1 cargo test -p sulku-permit", file.display());
        assert!(schema.contains("\"additionalProperties\": false"), "{name}: unknown keys are marked");
    }
}
