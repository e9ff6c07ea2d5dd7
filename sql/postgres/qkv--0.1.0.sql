-- The extension qkv: CREATE EXTENSION runs this. docs/sql.md tells what the functions do.
\echo Use "CREATE EXTENSION qkv" to load this file. \quit

-- ---- one row in, one value out; vectors are real[], or bytea of little-endian float32

CREATE FUNCTION vector(json text) RETURNS real[]
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_of_json';
CREATE FUNCTION vector(VARIADIC numbers double precision[]) RETURNS real[]
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_of_numbers';
CREATE FUNCTION vector(bytes bytea) RETURNS real[]
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_of_vector';
CREATE FUNCTION vector(numbers real[]) RETURNS real[]
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_of_vector';
CREATE FUNCTION vector_to_json(vector real[]) RETURNS text
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_to_json';
CREATE FUNCTION vector_to_json(vector bytea) RETURNS text
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_to_json';
CREATE FUNCTION vector_to_bytea(vector real[]) RETURNS bytea
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_vector_to_bytea';
CREATE FUNCTION attention_final(state bytea) RETURNS real[]
  LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'qkv_attention_final';

-- ---- what aggregates are made of
-- A row of vectors costs some tens of what the planner takes as the unit, one operator of a number: at the default of 1 it
-- believes that parallel processes are not worth their start.

DO $qkv$
DECLARE
  moving text;
  declaration text;
BEGIN
  -- Rows come: _add; come into a moving frame: _keep; leave it: _leave. C sees the types of "any" itself.
  FOREACH declaration IN ARRAY ARRAY[
      'qkv_attention_add(internal, "any", "any", "any")',
      'qkv_attention_add(internal, "any", "any", "any", float8)',
      'qkv_attention_keep(internal, "any", "any", "any")',
      'qkv_attention_keep(internal, "any", "any", "any", float8)',
      'qkv_leave(internal, "any", "any", "any")',
      'qkv_leave(internal, "any", "any", "any", float8)',
      'qkv_stats_add(internal, "any", "any")',
      'qkv_stats_add(internal, "any", "any", float8)',
      'qkv_top_add(internal, "any", "any", "any", integer)',
      'qkv_top_add(internal, "any", "any", "any", integer, float8)',
      'qkv_softmax_add(internal, float8, "any")',
      'qkv_softmax_add(internal, float8, "any", float8)',
      'qkv_softmax_keep(internal, float8, "any")',
      'qkv_softmax_keep(internal, float8, "any", float8)',
      'qkv_leave(internal, float8, "any")',
      'qkv_leave(internal, float8, "any", float8)',
      'qkv_logsumexp_add(internal, float8)',
      'qkv_logsumexp_keep(internal, float8)',
      'qkv_leave(internal, float8)',
      'qkv_merge_add(internal, bytea)',
      'qkv_combine(internal, internal)'] LOOP
    EXECUTE format('CREATE FUNCTION %s RETURNS internal LANGUAGE C IMMUTABLE PARALLEL SAFE COST 25 AS ''MODULE_PATHNAME'', %L',
                   declaration, split_part(declaration, '(', 1));
  END LOOP;
  FOREACH declaration IN ARRAY ARRAY[
      'qkv_mean_array(internal) RETURNS real[]',
      'qkv_mean_bytes(internal) RETURNS bytea',
      'qkv_mean_number(internal) RETURNS float8',
      'qkv_logsumexp(internal) RETURNS float8',
      'qkv_top(internal) RETURNS json',
      'qkv_stats(internal) RETURNS json',
      'qkv_state(internal) RETURNS bytea',
      'qkv_deserialize(bytea, internal) RETURNS internal'] LOOP
    EXECUTE format('CREATE FUNCTION %s LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS ''MODULE_PATHNAME'', %L',
                   declaration, split_part(declaration, '(', 1));
  END LOOP;
END
$qkv$;

-- ---- the aggregates: each for the types of its columns, and with and without its last argument

CREATE FUNCTION pg_temp.aggregate(declaration text, step text, final text, moving boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql AS $qkv$
BEGIN
  EXECUTE format('CREATE AGGREGATE %s (SFUNC = %s, STYPE = internal, SSPACE = 65536, FINALFUNC = %s, COMBINEFUNC = qkv_combine,'
                 ' SERIALFUNC = qkv_state, DESERIALFUNC = qkv_deserialize, PARALLEL = SAFE',
                 declaration, step || '_add', final)
    || CASE WHEN moving THEN format(', MSFUNC = %s, MINVFUNC = qkv_leave, MSTYPE = internal, MSSPACE = 65536, MFINALFUNC = %s)',
                                    step || '_keep', final) ELSE ')' END;
END
$qkv$;

DO $qkv$
DECLARE
  vector text;
  value text;
  mean text;
  last text;
BEGIN
  FOREACH vector IN ARRAY ARRAY['real[]', 'bytea'] LOOP
    FOREACH last IN ARRAY ARRAY['', ', scale float8'] LOOP
      FOR value, mean IN VALUES ('real[]', 'qkv_mean_array'), ('bytea', 'qkv_mean_bytes'), ('float8', 'qkv_mean_number') LOOP
        PERFORM pg_temp.aggregate(format('attention(q %1$s, k %1$s, v %2$s%3$s)', vector, value, last),
                                  'qkv_attention', mean, true);
        PERFORM pg_temp.aggregate(format('attention_state(q %1$s, k %1$s, v %2$s%3$s)', vector, value, last),
                                  'qkv_attention', 'qkv_state');
      END LOOP;
      PERFORM pg_temp.aggregate(format('attention_stats(q %1$s, k %1$s%2$s)', vector, last), 'qkv_stats', 'qkv_stats');
      PERFORM pg_temp.aggregate(format('attention_top(q %1$s, k %1$s, label "any", n integer%2$s)', vector, last),
                                'qkv_top', 'qkv_top');
    END LOOP;
  END LOOP;
  FOR value, mean IN VALUES ('real[]', 'qkv_mean_array'), ('bytea', 'qkv_mean_bytes'), ('float8', 'qkv_mean_number') LOOP
    FOREACH last IN ARRAY ARRAY['', ', temperature float8'] LOOP
      PERFORM pg_temp.aggregate(format('softmax_avg(score float8, value %s%s)', value, last), 'qkv_softmax', mean, true);
    END LOOP;
  END LOOP;
  PERFORM pg_temp.aggregate('logsumexp(score float8)', 'qkv_logsumexp', 'qkv_logsumexp', true);
  PERFORM pg_temp.aggregate('attention_merge(state bytea)', 'qkv_merge', 'qkv_state');
END
$qkv$;

DROP FUNCTION pg_temp.aggregate;
