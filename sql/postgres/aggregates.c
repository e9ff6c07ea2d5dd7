/* attention(), softmax_avg(), logsumexp() and their kin, as PostgreSQL calls them: qkv--0.1.0.sql puts each together.

   The state of every aggregate is a Rows. Rows that may leave again (a moving frame) have functions of their own, *_keep, so that
   a plain aggregate keeps none. */
#include <postgres.h>

#include <catalog/pg_type.h>
#include <fmgr.h>
#include <nodes/primnodes.h>
#include <utils/array.h>
#include <utils/builtins.h>
#include <utils/lsyscache.h>
#include <utils/memutils.h>

#include "sql/postgres/seam.h"
#include "sql/postgres/values.h"

PG_MODULE_MAGIC;

typedef struct Rows {
  int64 row; /* how many came; the number of the last one in errors */
  bool has_query;
  Sum* sum;
  MemoryContextCallback end;
} Rows;

static void end_rows(void* sum) { sum_end(sum); }

static Rows* new_rows(MemoryContext context, bool keeps) {
  Rows* rows = MemoryContextAllocZero(context, sizeof(Rows));
  rows->sum = sum_begin(context, keeps);
  if (rows->sum == NULL) ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
  rows->end.func = end_rows;
  rows->end.arg = rows->sum;
  MemoryContextRegisterResetCallback(context,
                                     &rows->end); /* sums.cc's memory is not PostgreSQL's */
  return rows;
}

/* The context that lives as long as the aggregate. */
static MemoryContext lasting(FunctionCallInfo fcinfo) {
  MemoryContext context;
  if (!AggCheckCallContext(fcinfo, &context)) elog(ERROR, "qkv: called outside of an aggregate");
  return context;
}

static Rows* argument(FunctionCallInfo fcinfo, int i) {
  return PG_ARGISNULL(i) ? NULL : (Rows*)PG_GETARG_POINTER(i);
}

/* What is found out about a call once. */
typedef struct Call {
  Oid types[FUNC_MAX_ARGS];
  LabelType label;
  bool one_query; /* q is a constant of the statement: no row can have another */
} Call;

/* Whether the first argument is one value in all rows, as the planner left it. A window function does not tell. */
static bool is_constant(FunctionCallInfo fcinfo) {
  const Aggref* aggregate = AggGetAggref(fcinfo);
  const Node* first;
  if (aggregate == NULL || aggregate->args == NIL) return false;
  first = (const Node*)linitial_node(TargetEntry, aggregate->args)->expr;
  return IsA(first, Const) ||
         (IsA(first, Param) && ((const Param*)first)->paramkind == PARAM_EXTERN);
}

static Call* call_of(FunctionCallInfo fcinfo) {
  Call* call = fcinfo->flinfo->fn_extra;
  if (call == NULL) {
    call = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Call));
    for (int i = 0; i < PG_NARGS(); ++i) call->types[i] = get_fn_expr_argtype(fcinfo->flinfo, i);
    call->one_query = is_constant(fcinfo);
    fcinfo->flinfo->fn_extra = call;
  }
  return call;
}

static bool any_null(FunctionCallInfo fcinfo, int except) {
  for (int i = 1; i < PG_NARGS(); ++i)
    if (i != except && PG_ARGISNULL(i)) return true;
  return false;
}

/* Begins the next row of an aggregate, whether it counts or not. */
static Rows* next_row(FunctionCallInfo fcinfo, bool keeps, Place* place) {
  Rows* rows = argument(fcinfo, 0);
  if (rows == NULL) rows = new_rows(lasting(fcinfo), keeps);
  place->fcinfo = fcinfo;
  place->row = ++rows->row;
  return rows;
}

static Vector vector_at(Place* place, const Call* call, int i, const char* column) {
  FunctionCallInfo fcinfo = place->fcinfo;
  place->column = column;
  return read_vector(PG_GETARG_DATUM(i), call->types[i], place);
}

static Value value_at(Place* place, const Call* call, int i, const char* column) {
  FunctionCallInfo fcinfo = place->fcinfo;
  Value value = {0};
  if (call->types[i] == FLOAT8OID) {
    value.is_number = true;
    value.number = PG_GETARG_FLOAT8(i);
  } else {
    value.vector = vector_at(place, call, i, column);
  }
  return value;
}

/* A query that cannot change is read and compared once, not row by row. */
static Vector query_at(const Rows* rows, Place* place, const Call* call) {
  const Vector same = {0};
  return rows->has_query && call->one_query ? same : vector_at(place, call, 1, "q");
}

static void add_key(Rows* rows, const Place* place, const KeyRow* row) {
  SeamError error;
  if (!sum_add_key(rows->sum, row, &error)) fail_seam(place, &error);
  rows->has_query = true;
}

/* (Rows, q, k, v [, scale]), and without v */
static Datum add_keys(FunctionCallInfo fcinfo, const char* function, bool has_value, bool keeps) {
  Place place = {.function = function};
  Rows* rows = next_row(fcinfo, keeps, &place);
  const Call* call = call_of(fcinfo);
  const int scale_at = has_value ? 4 : 3;
  KeyRow row = {.row = rows->row};
  Value value;
  double scale;
  if (any_null(fcinfo, -1)) PG_RETURN_POINTER(rows);
  row.query = query_at(rows, &place, call);
  row.key = vector_at(&place, call, 2, "k");
  if (has_value) {
    value = value_at(&place, call, 3, "v");
    row.value = &value;
  }
  if (PG_NARGS() > scale_at) {
    scale = PG_GETARG_FLOAT8(scale_at);
    row.scale = &scale;
  }
  add_key(rows, &place, &row);
  PG_RETURN_POINTER(rows);
}

PG_FUNCTION_INFO_V1(qkv_attention_add);
Datum qkv_attention_add(PG_FUNCTION_ARGS) { return add_keys(fcinfo, "attention", true, false); }

PG_FUNCTION_INFO_V1(qkv_attention_keep);
Datum qkv_attention_keep(PG_FUNCTION_ARGS) { return add_keys(fcinfo, "attention", true, true); }

PG_FUNCTION_INFO_V1(qkv_stats_add);
Datum qkv_stats_add(PG_FUNCTION_ARGS) { return add_keys(fcinfo, "attention_stats", false, false); }

/* (Rows, q, k, label, n [, scale]) */
PG_FUNCTION_INFO_V1(qkv_top_add);
Datum qkv_top_add(PG_FUNCTION_ARGS) {
  Place place = {.function = "attention_top"};
  Rows* rows = next_row(fcinfo, false, &place);
  Call* call = call_of(fcinfo);
  KeyRow row = {.row = rows->row, .label = "null", .label_size = 4};
  double scale;
  if (any_null(fcinfo, 3)) PG_RETURN_POINTER(rows);
  row.query = query_at(rows, &place, call);
  row.key = vector_at(&place, call, 2, "k");
  row.top = PG_GETARG_INT32(4);
  if (row.top < 1 || row.top > 10000) {
    place.column = "n";
    fail(&place, "expected a whole number from 1 to 10000");
  }
  if (!PG_ARGISNULL(3)) {
    place.column = "label";
    row.label = read_label(PG_GETARG_DATUM(3), call->types[3], &call->label,
                           fcinfo->flinfo->fn_mcxt, &place, &row.label_size);
  }
  if (PG_NARGS() > 5) {
    scale = PG_GETARG_FLOAT8(5);
    row.scale = &scale;
  }
  add_key(rows, &place, &row);
  PG_RETURN_POINTER(rows);
}

/* (Rows, score [, value [, temperature]]) */
static Datum add_scores(FunctionCallInfo fcinfo, const char* function, bool keeps) {
  Place place = {.function = function};
  Rows* rows = next_row(fcinfo, keeps, &place);
  Value value = {0};
  double temperature;
  SeamError error;
  if (any_null(fcinfo, -1)) PG_RETURN_POINTER(rows);
  if (PG_NARGS() > 2) value = value_at(&place, call_of(fcinfo), 2, "value");
  if (PG_NARGS() > 3) temperature = PG_GETARG_FLOAT8(3);
  if (!sum_add_score(rows->sum, rows->row, PG_GETARG_FLOAT8(1),
                     PG_NARGS() > 3 ? &temperature : NULL, &value, &error))
    fail_seam(&place, &error);
  PG_RETURN_POINTER(rows);
}

PG_FUNCTION_INFO_V1(qkv_softmax_add);
Datum qkv_softmax_add(PG_FUNCTION_ARGS) { return add_scores(fcinfo, "softmax_avg", false); }

PG_FUNCTION_INFO_V1(qkv_softmax_keep);
Datum qkv_softmax_keep(PG_FUNCTION_ARGS) { return add_scores(fcinfo, "softmax_avg", true); }

PG_FUNCTION_INFO_V1(qkv_logsumexp_add);
Datum qkv_logsumexp_add(PG_FUNCTION_ARGS) { return add_scores(fcinfo, "logsumexp", false); }

PG_FUNCTION_INFO_V1(qkv_logsumexp_keep);
Datum qkv_logsumexp_keep(PG_FUNCTION_ARGS) { return add_scores(fcinfo, "logsumexp", true); }

/* (Rows, state) */
PG_FUNCTION_INFO_V1(qkv_merge_add);
Datum qkv_merge_add(PG_FUNCTION_ARGS) {
  Place place = {.function = "attention_merge"};
  Rows* rows = next_row(fcinfo, false, &place);
  SeamError error;
  if (!PG_ARGISNULL(1)) {
    bytea* state = PG_GETARG_BYTEA_PP(1);
    if (!sum_add_state(rows->sum, rows->row, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), &error))
      fail_seam(&place, &error);
  }
  PG_RETURN_POINTER(rows);
}

/* The row that came first leaves a moving frame; its columns are those it came with. */
PG_FUNCTION_INFO_V1(qkv_leave);
Datum qkv_leave(PG_FUNCTION_ARGS) {
  Place place = {.fcinfo = fcinfo, .function = "qkv"};
  Rows* rows = argument(fcinfo, 0);
  SeamError error;
  lasting(fcinfo);
  if (!any_null(fcinfo, -1) && !sum_leave(rows->sum, &error)) fail_seam(&place, &error);
  PG_RETURN_POINTER(rows);
}

/* ---- parts of the rows, added up by several processes */

PG_FUNCTION_INFO_V1(qkv_combine);
Datum qkv_combine(PG_FUNCTION_ARGS) {
  Place place = {.fcinfo = fcinfo, .function = "qkv"};
  MemoryContext context = lasting(fcinfo);
  Rows *rows = argument(fcinfo, 0), *more = argument(fcinfo, 1);
  SeamError error;
  if (more == NULL) return rows != NULL ? PointerGetDatum(rows) : (fcinfo->isnull = true, (Datum)0);
  if (rows == NULL) rows = new_rows(context, false);
  if (!sum_merge(rows->sum, more->sum, &error)) fail_seam(&place, &error);
  PG_RETURN_POINTER(rows);
}

PG_FUNCTION_INFO_V1(qkv_deserialize);
Datum qkv_deserialize(PG_FUNCTION_ARGS) {
  Place place = {.fcinfo = fcinfo, .function = "qkv"};
  bytea* state = PG_GETARG_BYTEA_PP(0);
  Rows* rows;
  SeamError error;
  lasting(fcinfo);
  rows = new_rows(CurrentMemoryContext, false); /* combined soon, then gone */
  if (!sum_add_state(rows->sum, 1, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), &error))
    fail_seam(&place, &error);
  PG_RETURN_POINTER(rows);
}

/* ---- answers */

typedef bool (*Give)(Sum*, Answer*, SeamError*);
typedef bool (*GiveNumber)(Sum*, double*, bool*, SeamError*);

static Datum answer(FunctionCallInfo fcinfo, Give give, size_t prefix,
                    Datum (*datum_of)(const Answer*)) {
  Place place = {.fcinfo = fcinfo, .function = "qkv"};
  Rows* rows = argument(fcinfo, 0);
  Answer bytes = {.prefix = prefix};
  SeamError error;
  if (rows == NULL) PG_RETURN_NULL();
  if (!give(rows->sum, &bytes, &error)) fail_seam(&place, &error);
  if (bytes.bytes == NULL) PG_RETURN_NULL();
  return datum_of(&bytes);
}

static Datum answer_number(FunctionCallInfo fcinfo, GiveNumber give) {
  Place place = {.fcinfo = fcinfo, .function = "qkv"};
  Rows* rows = argument(fcinfo, 0);
  double number = 0;
  bool is_null = true;
  SeamError error;
  if (rows == NULL) PG_RETURN_NULL();
  if (!give(rows->sum, &number, &is_null, &error)) fail_seam(&place, &error);
  if (is_null) PG_RETURN_NULL();
  PG_RETURN_FLOAT8(number);
}

PG_FUNCTION_INFO_V1(qkv_mean_array);
Datum qkv_mean_array(PG_FUNCTION_ARGS) { return answer(fcinfo, sum_mean, ARRAY_PREFIX, array_of); }

PG_FUNCTION_INFO_V1(qkv_mean_bytes);
Datum qkv_mean_bytes(PG_FUNCTION_ARGS) { return answer(fcinfo, sum_mean, VARHDRSZ, bytes_of); }

PG_FUNCTION_INFO_V1(qkv_mean_number);
Datum qkv_mean_number(PG_FUNCTION_ARGS) { return answer_number(fcinfo, sum_mean_number); }

PG_FUNCTION_INFO_V1(qkv_logsumexp);
Datum qkv_logsumexp(PG_FUNCTION_ARGS) { return answer_number(fcinfo, sum_log_sum_exp); }

/* attention_state()'s answer, and what a parallel process hands on */
PG_FUNCTION_INFO_V1(qkv_state);
Datum qkv_state(PG_FUNCTION_ARGS) { return answer(fcinfo, sum_state, VARHDRSZ, bytes_of); }

PG_FUNCTION_INFO_V1(qkv_top);
Datum qkv_top(PG_FUNCTION_ARGS) { return answer(fcinfo, sum_top, VARHDRSZ, text_of); }

PG_FUNCTION_INFO_V1(qkv_stats);
Datum qkv_stats(PG_FUNCTION_ARGS) { return answer(fcinfo, sum_stats, VARHDRSZ, text_of); }
