#include "sql/postgres/values.h"

#include <math.h>

#include <catalog/pg_type.h>
#include <mb/pg_wchar.h>
#include <nodes/primnodes.h>
#include <utils/array.h>
#include <utils/builtins.h>
#include <utils/lsyscache.h>
#include <utils/memutils.h>

void* pg_allocate(void* context, size_t size) {
  if (!AllocHugeSizeIsValid(size))
    return NULL; /* here alone MemoryContextAllocExtended() would jump */
  return MemoryContextAllocExtended(context != NULL ? (MemoryContext)context : CurrentMemoryContext,
                                    size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

void pg_release(void* memory) { pfree(memory); }

/* Our texts are UTF-8. */
static const char* in_server_encoding(const char* text) {
  return GetDatabaseEncoding() == PG_SQL_ASCII ? text
                                               : pg_any_to_server(text, (int)strlen(text), PG_UTF8);
}

/* The name that the user called. */
static const char* called(const Place* place) {
  const Aggref* call = AggGetAggref(place->fcinfo);
  const char* name = call != NULL ? get_func_name(call->aggfnoid) : NULL;
  return name != NULL ? name : place->function;
}

void fail(const Place* place, const char* text) {
  const char* what = in_server_encoding(text);
  if (place->row == 0)
    ereport(ERROR, errcode(ERRCODE_DATA_EXCEPTION), errmsg("%s: %s", called(place), what));
  ereport(ERROR, errcode(ERRCODE_DATA_EXCEPTION),
          errmsg("%s: row " INT64_FORMAT ", column %s: %s", called(place), place->row,
                 place->column, what));
}

void fail_seam(const Place* place, const SeamError* error) {
  const Place whole = {place->fcinfo, place->function, 0, NULL};
  if (error->no_memory)
    ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("%s: out of memory", called(place)));
  fail(&whole, error->text);
}

static Vector read_array(Datum datum, const Place* place) {
  ArrayType* array = DatumGetArrayTypeP(datum);
  Vector vector;
  if (ARR_NDIM(array) > 1)
    fail(place, psprintf("an array of %d dimensions is no vector", ARR_NDIM(array)));
  if (ARR_NDIM(array) == 0) fail(place, "an empty vector");
  if (ARR_HASNULL(array) && array_contains_nulls(array)) fail(place, "a NULL inside of a vector");
  vector.count = (size_t)ARR_DIMS(array)[0];
  vector.numbers = (const float*)ARR_DATA_PTR(array);
  return vector;
}

static Vector read_bytes(Datum datum, const Place* place) {
  struct varlena* bytes = PG_DETOAST_DATUM_PACKED(datum);
  const size_t size = VARSIZE_ANY_EXHDR(bytes);
  const char* data = VARDATA_ANY(bytes);
  Vector vector;
  if (size == 0 || size % sizeof(float) != 0)
    fail(place, psprintf("a bytea of %zu bytes is no vector of float32", size));
  if ((uintptr_t)data % sizeof(float) != 0) data = memcpy(palloc(size), data, size);
  vector.count = size / sizeof(float);
  vector.numbers = (const float*)(const void*)data;
  return vector;
}

Vector read_vector(Datum datum, Oid type, const Place* place) {
  return type == BYTEAOID ? read_bytes(datum, place) : read_array(datum, place);
}

/* C++ could allocate more than a value of PostgreSQL may hold. */
static void check_size(const Answer* answer) {
  if (!AllocSizeIsValid(answer->size))
    ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
            errmsg("an answer of %zu bytes is larger than a value may be", answer->size));
}

Datum array_of(const Answer* answer) {
  ArrayType* array = (ArrayType*)answer->bytes;
  const size_t count = (answer->size - answer->prefix) / sizeof(float);
  if (count == 0) return PointerGetDatum(construct_empty_array(FLOAT4OID));
  check_size(answer);
  SET_VARSIZE(array, answer->size);
  array->ndim = 1;
  array->dataoffset = 0; /* no NULLs */
  array->elemtype = FLOAT4OID;
  ARR_DIMS(array)[0] = (int)count;
  ARR_LBOUND(array)[0] = 1;
  return PointerGetDatum(array);
}

Datum bytes_of(const Answer* answer) {
  check_size(answer);
  SET_VARSIZE(answer->bytes, answer->size);
  return PointerGetDatum(answer->bytes);
}

Datum text_of(const Answer* answer) {
  char* bytes = answer->bytes + answer->prefix;
  const int size = (int)(answer->size - answer->prefix);
  check_size(answer);
  if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII) {
    char* converted = pg_any_to_server(bytes, size, PG_UTF8);
    if (converted != bytes) return PointerGetDatum(cstring_to_text(converted));
  }
  return bytes_of(answer);
}

/* The characters of a value; `own` text and the like are taken as they are, all else by its type's output function. */
static const char* characters(Datum datum, Oid type, LabelType* kept, MemoryContext context,
                              size_t* size) {
  const char* text;
  if (type == TEXTOID || type == VARCHAROID || type == BPCHAROID) {
    struct varlena* value = PG_DETOAST_DATUM_PACKED(datum);
    *size = VARSIZE_ANY_EXHDR(value);
    return VARDATA_ANY(value);
  }
  if (type == UNKNOWNOID) { /* a literal */
    text = DatumGetCString(datum);
  } else {
    if (kept->type != type) {
      Oid function;
      bool is_varlena;
      getTypeOutputInfo(type, &function, &is_varlena);
      fmgr_info_cxt(function, &kept->output, context);
      kept->type = type;
    }
    text = OutputFunctionCall(&kept->output, datum);
  }
  *size = strlen(text);
  return text;
}

static const char* taken(bool done, const SeamError* error, const Answer* json, const Place* place,
                         size_t* size) {
  if (!done) fail_seam(place, error);
  *size = json->size;
  return json->bytes;
}

const char* read_label(Datum datum, Oid type, LabelType* kept, MemoryContext context,
                       const Place* place, size_t* size) {
  Answer json = {0};
  SeamError error;
  const char* text;
  type = getBaseType(type);
  if (type == BYTEAOID) fail(place, "a bytea is no label");
  if (type == BOOLOID) {
    *size = strlen(DatumGetBool(datum) ? "true" : "false");
    return DatumGetBool(datum) ? "true" : "false";
  }
  if (type == FLOAT8OID && isfinite(DatumGetFloat8(datum)))
    return taken(json_of_number(DatumGetFloat8(datum), &json, &error), &error, &json, place, size);
  text = characters(datum, type, kept, context, size);
  if (type == INT2OID || type == INT4OID || type == INT8OID || type == OIDOID ||
      ((type == NUMERICOID || type == FLOAT4OID) && isdigit((unsigned char)text[*size - 1])))
    return text;
  if (GetDatabaseEncoding() != PG_SQL_ASCII && GetDatabaseEncoding() != PG_UTF8) {
    char* converted = pg_server_to_any(text, (int)*size, PG_UTF8);
    if (converted != text) *size = strlen(converted);
    text = converted;
  }
  if (type == JSONOID || type == JSONBOID) return text;
  return taken(json_of_text(text, *size, &json, &error), &error, &json, place, size);
}
