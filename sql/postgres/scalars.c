/* vector(), vector_to_json(), vector_to_bytea(), attention_final(): one row in, one value out. */
#include <postgres.h>

#include <catalog/pg_type.h>
#include <fmgr.h>
#include <utils/array.h>
#include <utils/builtins.h>

#include "sql/postgres/values.h"

static Vector the_vector(FunctionCallInfo fcinfo, const Place* place) {
  return read_vector(PG_GETARG_DATUM(0), get_fn_expr_argtype(fcinfo->flinfo, 0), place);
}

/* vector('[1, 2]') → real[] */
PG_FUNCTION_INFO_V1(qkv_vector_of_json);
Datum qkv_vector_of_json(PG_FUNCTION_ARGS) {
  const Place place = {fcinfo, "vector", 0, NULL};
  text* json = PG_GETARG_TEXT_PP(0);
  Answer vector = {.prefix = ARRAY_PREFIX};
  SeamError error;
  if (!vector_of_json(VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json), &vector, &error))
    fail_seam(&place, &error);
  return array_of(&vector);
}

/* vector(1, 2, …) → real[] */
PG_FUNCTION_INFO_V1(qkv_vector_of_numbers);
Datum qkv_vector_of_numbers(PG_FUNCTION_ARGS) {
  const Place place = {fcinfo, "vector", 0, NULL};
  ArrayType* numbers = PG_GETARG_ARRAYTYPE_P(0);
  Answer vector = {.prefix = ARRAY_PREFIX};
  SeamError error;
  if (array_contains_nulls(numbers)) PG_RETURN_NULL();
  if (ARR_NDIM(numbers) != 1) fail(&place, "expected a JSON array, a bytea or numbers");
  if (!vector_of_doubles((const double*)ARR_DATA_PTR(numbers), ARR_DIMS(numbers)[0], &vector,
                         &error))
    fail_seam(&place, &error);
  return array_of(&vector);
}

/* vector(bytea) and vector(real[]) → real[], checked */
PG_FUNCTION_INFO_V1(qkv_vector_of_vector);
Datum qkv_vector_of_vector(PG_FUNCTION_ARGS) {
  const Place place = {fcinfo, "vector", 1, "1"};
  Answer vector = {.prefix = ARRAY_PREFIX};
  SeamError error;
  if (!vector_of_vector(the_vector(fcinfo, &place), &vector, &error)) fail_seam(&place, &error);
  return array_of(&vector);
}

PG_FUNCTION_INFO_V1(qkv_vector_to_bytea);
Datum qkv_vector_to_bytea(PG_FUNCTION_ARGS) {
  const Place place = {fcinfo, "vector_to_bytea", 1, "1"};
  Answer bytes = {.prefix = VARHDRSZ};
  SeamError error;
  if (!vector_of_vector(the_vector(fcinfo, &place), &bytes, &error)) fail_seam(&place, &error);
  return bytes_of(&bytes);
}

PG_FUNCTION_INFO_V1(qkv_vector_to_json);
Datum qkv_vector_to_json(PG_FUNCTION_ARGS) {
  const Place place = {fcinfo, "vector_to_json", 1, "1"};
  Answer json = {.prefix = VARHDRSZ};
  SeamError error;
  if (!json_of_vector(the_vector(fcinfo, &place), &json, &error)) fail_seam(&place, &error);
  return text_of(&json);
}

/* The answer of a state; NULL where no row was visible. */
PG_FUNCTION_INFO_V1(qkv_attention_final);
Datum qkv_attention_final(PG_FUNCTION_ARGS) {
  const Place place = {fcinfo, "attention_final", 0, NULL};
  bytea* state = PG_GETARG_BYTEA_PP(0);
  Answer vector = {.prefix = ARRAY_PREFIX};
  SeamError error;
  if (!mean_of_state(VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), &vector, &error))
    fail_seam(&place, &error);
  if (vector.bytes == NULL) PG_RETURN_NULL();
  return array_of(&vector);
}
