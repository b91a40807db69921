//! The OpenAPI document, and the schemas of what people keep: reports and matrices. May not: describe what is not there; a
//! test asks for every path.

mod rows;

use axum::http::StatusCode;
use axum::response::Response;
use regatta_model::case::ToldResults;
use regatta_model::history::{FlakyCases, History};
use regatta_model::matrix::Matrix;
use regatta_model::plan::AttemptPlan;
use regatta_model::problem::Problem;
use regatta_model::report::{CellReport, Report, Searches};
use regatta_model::run::{RunEvent, RunSummary, Submission};
use regatta_model::upload::{UploadPlace, UploadRequest};
use regatta_model::wait::Explanation;
use regatta_model::wire::{Artifact, SyncRequest, SyncResponse};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, ResponseBuilder,
    Schema,
};

use crate::answer::{Answer, Refusal, json};
use crate::hosts::{Host, SetPolicy};
use crate::retention::Pruned;

use rows::{Body, Row, rows};

fn text() -> RefOr<Schema> {
    RefOr::T(Schema::Object(
        ObjectBuilder::new().schema_type(Type::String).build(),
    ))
}

fn reference(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

/// A body's schema: a name, or `[NAME]` for a list of them.
fn content((_, schema): Body) -> Content {
    match schema.map(|name| {
        (
            name,
            name.strip_prefix('[')
                .and_then(|name| name.strip_suffix(']')),
        )
    }) {
        None => Content::new(Some(text())),
        Some((_, Some(item))) => {
            let list = utoipa::openapi::schema::ArrayBuilder::new()
                .items(reference(item))
                .build();
            Content::new(Some(RefOr::T(Schema::Array(list))))
        }
        Some((name, None)) => Content::new(Some(reference(name))),
    }
}

fn parameter(name: &str, place: ParameterIn) -> Parameter {
    let required = if place == ParameterIn::Path {
        Required::True
    } else {
        Required::False
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(text()))
        .build()
}

fn operation(row: &Row) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(row.id))
        .summary(Some(row.summary));
    let named = row
        .path
        .split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'));
    for (name, _) in named {
        operation = operation.parameter(parameter(name, ParameterIn::Path));
    }
    for name in row.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query));
    }
    for name in row.headers {
        operation = operation.parameter(parameter(name, ParameterIn::Header));
    }
    if !row.takes.is_empty() {
        let takes = row.takes.iter();
        let body = takes.fold(
            RequestBodyBuilder::new().required(Some(Required::True)),
            |body, taken| body.content(taken.0, content(*taken)),
        );
        operation = operation.request_body(Some(body.build()));
    }
    let done = ResponseBuilder::new().description("Done");
    let done = match row.gives {
        Some(gives) => done.content(gives.0, content(gives)),
        None => done,
    };
    let problem = ResponseBuilder::new()
        .description("A problem (RFC 9457); its detail says what is wrong and the way out")
        .content(
            "application/problem+json",
            Content::new(Some(reference("Problem"))),
        );
    operation
        .response(row.status.to_string(), done.build())
        .response("default", problem.build())
        .build()
}

fn define<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn build() -> Result<serde_json::Value, serde_json::Error> {
    let mut paths = Paths::new();
    for row in rows() {
        let operation = operation(&row);
        paths.add_path_operation(row.path, vec![row.method], operation);
    }
    let info = InfoBuilder::new()
        .title("Regatta")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Runs every cell of a test matrix in its own container, and says what a version broke.",
        ))
        .build();
    let document: OpenApi = OpenApiBuilder::new().info(info).paths(paths).build();
    let mut document = serde_json::to_value(&document)?;
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    define::<Artifact>(&mut generator);
    define::<AttemptPlan>(&mut generator);
    define::<CellReport>(&mut generator);
    define::<Explanation>(&mut generator);
    define::<Searches>(&mut generator);
    define::<FlakyCases>(&mut generator);
    define::<History>(&mut generator);
    define::<Host>(&mut generator);
    define::<Problem>(&mut generator);
    define::<Pruned>(&mut generator);
    define::<Report>(&mut generator);
    define::<RunEvent>(&mut generator);
    define::<RunSummary>(&mut generator);
    define::<SetPolicy>(&mut generator);
    define::<Submission>(&mut generator);
    define::<SyncRequest<ToldResults>>(&mut generator);
    define::<SyncResponse>(&mut generator);
    define::<UploadPlace>(&mut generator);
    define::<UploadRequest>(&mut generator);
    let schemas = serde_json::Value::Object(generator.take_definitions(true));
    if let Some(document) = document.as_object_mut() {
        document.insert(
            "components".to_owned(),
            serde_json::json!({ "schemas": schemas }),
        );
    }
    Ok(document)
}

pub(crate) async fn document() -> Answer<Response> {
    match build() {
        Ok(document) => Ok(json(StatusCode::OK, &document)),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            error.to_string(),
        )),
    }
}

pub(crate) async fn report_schema() -> Response {
    json(StatusCode::OK, &schemars::schema_for!(Report))
}

pub(crate) async fn matrix_schema() -> Response {
    json(StatusCode::OK, &Matrix::schema())
}
