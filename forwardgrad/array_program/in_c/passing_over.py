"""Products of matrices in C, in which rows or columns of zeros are passed over, whatever else is in them."""

PASSING_OVER = """\
/* PART is how many of its multiplications, one in so many, a product may have left where it pays to make only these. */
enum { PART = 2 };

/* The entries that such a product takes beside what others take: what is left of both matrices and of the result, and
   lists of rows and terms. */
MAYBE_UNUSED static inline extent passing_room(extent m, extent n, extent k) {
    const extent columns = n < COLUMNS ? n : COLUMNS, depth = k < DEPTH ? k : DEPTH;
    return packing_room(m, n, k) + panels(columns, depth) + m * (depth + columns) + m + k;
}

/* Whether a row is all zeros. */
static int is_silent(extent n, const real *row, extent step) {
    int found = 0;
    for (extent first = 0; first < n && !found; first += COLUMNS) {
        const extent end = first + COLUMNS < n ? first + COLUMNS : n;
        for (extent j = first; j < end; j++) {
            found |= row[j * step] != 0;
        }
    }
    return !found;
}

/* Put some rows of a matrix into panels. */
ONCE static void pack_listed(extent n, extent k, const int *restrict at, const real *restrict b, extent bk,
                             real *restrict packed) {
    for (extent j = 0; j < n; j += WIDTH) {
        const extent columns = n - j < WIDTH ? n - j : WIDTH;
        for (extent p = 0; p < k; p++) {
            const real *row = b + at[p] * bk + j;
            for (extent w = 0; w < columns; w++) {
                packed[w] = row[w];
            }
            for (extent w = columns; w < WIDTH; w++) {
                packed[w] = 0;
            }
            packed += WIDTH;
        }
    }
}

/* What `multiply` gives, to the last bit but for the sign of zeros. Terms that are zero for all rows and all columns
   are not added, and rows without any are left as they are. */
MAYBE_UNUSED ONCE static void multiply_passing_over(extent m, extent n, extent k, const real *a, extent am, extent ak,
                                                    const real *b, extent bk, extent bn, real *c, extent cm, int add,
                                                    real *packed) {
    const extent most = n < COLUMNS ? n : COLUMNS, deep = k < DEPTH ? k : DEPTH;
    real *kept = packed + packing_room(m, n, k), *made = kept + m * deep, *panel = made + m * most;
    int *rows = (int *)(panel + panels(most, deep)), *terms = rows + m;
    extent left = 0, count = 0;
    for (extent p = 0; p < k; p++) {
        terms[count] = (int)p;
        count += !is_silent(m, a + p * ak, am) && !is_silent(n, b + p * bk, bn);
    }
    for (extent i = 0; i < m; i++) {
        int here = 0;
        for (extent q = 0; q < count && !here; q++) {
            here = a[i * am + terms[q] * ak] != 0;
        }
        rows[left] = (int)i;
        left += here;
    }
    if (bn != 1 || left * count * PART > m * k) {
        multiply(m, n, k, a, am, ak, b, bk, bn, c, cm, add, packed);
        return;
    }
    for (extent i = 0; i < m && !add; i++) {
        for (extent j = 0; j < n; j++) {
            c[i * cm + j] = 0;
        }
    }
    for (extent first = 0, next = 0; left > 0 && first < count; first = next) {
        const extent chunk = terms[first] / DEPTH;
        while (next < count && terms[next] / DEPTH == chunk) {
            next++;
        }
        const extent depth = next - first;
        for (extent i = 0; i < left; i++) {
            for (extent q = 0; q < depth; q++) {
                kept[i * depth + q] = a[rows[i] * am + terms[first + q] * ak];
            }
        }
        for (extent j = 0; j < n; j += COLUMNS) {
            const extent columns = n - j < COLUMNS ? n - j : COLUMNS;
            pack_listed(columns, depth, terms + first, b + j, bk, panel);
            multiply_packed(left, columns, depth, kept, depth, 1, panel, made, columns, 0);
            for (extent i = 0; i < left; i++) {
                real *row = c + rows[i] * cm + j;
                const real *more = made + i * columns;
                #pragma omp simd
                for (extent w = 0; w < columns; w++) {
                    row[w] += more[w];
                }
            }
        }
    }
}
"""
