/* PostgreSQL's values as those of seam.h, and back. Errors leave by ereport(): C only. */
#ifndef QKV_SQL_POSTGRES_VALUES_H
#define QKV_SQL_POSTGRES_VALUES_H

#include <postgres.h>

#include <fmgr.h>
#include <utils/array.h>

#include "sql/postgres/seam.h"

/* What errors say of a call of ours: "attention: row 2, column k: …". */
typedef struct Place {
  FunctionCallInfo fcinfo;
  const char*
      function; /* a window function does not tell what it was called as, so what to say then */
  int64 row;    /* 0: not about a row */
  const char* column;
} Place;

pg_attribute_noreturn() void fail(const Place* place, const char* text);
/* Text of C++, which names row and column itself. */
pg_attribute_noreturn() void fail_seam(const Place* place, const SeamError* error);

/* A real[] or a bytea of float32 as a vector: in place, unless it was stored compressed, out of line or unaligned. */
Vector read_vector(Datum datum, Oid type, const Place* place);

/* Room for the header of the result before its numbers. */
#define ARRAY_PREFIX ARR_OVERHEAD_NONULLS(1)
Datum array_of(const Answer* answer); /* prefix ARRAY_PREFIX */
Datum bytes_of(const Answer* answer); /* bytea; prefix VARHDRSZ */
Datum text_of(const Answer* answer);  /* text or json of UTF-8; prefix VARHDRSZ */

/* How a type's values become labels; zeroed before its first use, kept with the function call. */
typedef struct LabelType {
  Oid type;
  FmgrInfo output;
} LabelType;

/* A label as JSON in UTF-8: numbers, booleans and JSON as they are, everything else as text. */
const char* read_label(Datum datum, Oid type, LabelType* kept, MemoryContext context,
                       const Place* place, size_t* size);

#endif
