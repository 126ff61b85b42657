/* The GRU learner's algorithm in C with GNU vectors: the yardstick for the compiled Python kernels.
 *
 * r, z = sigmoid(W x + b + U h + c)    n = tanh(W_n x + b_n + r (U_n h + c_n))    h' = n + z (h - n)    y = V h' + d
 *
 * Weights, one block: b (3H) and below it W's I rows, U (H, 3H), c (3H), V (H), d (16). Columns of W are ordered
 * n, r, z and those of U r, z, n. A row of activations is [n, r, z, U_n h + c_n], one of D its gradients
 * [dn, dr, dz, dn r]; both are LA floats apart. Rows of X are [1, x]. H is a multiple of 16.
 * With -DHIDDEN=32 H is a constant; without it, H is known at run time only, as it is to the Python kernels.
 * No -ffast-math: it would delete the rounding by a magic number in sigmoid.
 */
#include <math.h>
#include <string.h>

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(64)));
#define INLINE static inline __attribute__((always_inline))
#define AT(p) (*(vec *)(p))

typedef struct {
    float *weights, *m, *v, *gradient, *U_transposed, *X, *activations, *D, *S, *dh, *DY;
    const float *labels;
    long inputs, hidden, steps, first; /* the last steps, from `first` on, have labels */
    float lr, clip, power1, power2;    /* power: beta to the number of updates so far */
} Learner;

#ifdef HIDDEN
#define H_OF(l) ((long)HIDDEN)
#else
#define H_OF(l) ((l)->hidden)
#endif
#define LA(H) (4 * (H) + 16)
#define LX(I) (((I) + 16) / 16 * 16)

INLINE vec splat(float x) { return x - (vec){}; }

INLINE float sum(vec x) {
    float total = 0;
    for (int k = 0; k < 16; k++) total += x[k];
    return total;
}

INLINE vec clamp(vec x, float limit) {
    vec high = splat(limit), low = splat(-limit);
    ivec over = x > high;
    x = (vec)(((ivec)high & over) | ((ivec)x & ~over));
    ivec under = x < low;
    return (vec)(((ivec)low & under) | ((ivec)x & ~under));
}

INLINE vec tanh16(vec x) { /* rational, degree 13 over 6 */
    x = clamp(x, 7.90531110763549805f);
    vec q = x * x, p = splat(-2.76076847742355e-16f), d = splat(1.19825839466702e-06f);
    p = p * q + 2.00018790482477e-13f;
    p = p * q + -8.60467152213735e-11f;
    p = p * q + 5.12229709037114e-08f;
    p = p * q + 1.48572235717979e-05f;
    p = p * q + 6.37261928875436e-04f;
    p = p * q + 4.89352455891786e-03f;
    d = d * q + 1.18534705686654e-04f;
    d = d * q + 2.26843463243900e-03f;
    d = d * q + 4.89352518554385e-03f;
    return p * x / d;
}

INLINE vec sigmoid16(vec x) { /* by exp: Cephes, degree 5 */
    x = -clamp(x, 87.f);
    vec rounded = x * 1.44269504088896341f + 12582912.f, n = rounded - 12582912.f;
    vec r = n * -0.693359375f + x;
    r = n * 2.12194440e-4f + r;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.f);
    return 1.f / (1.f + (vec)((ivec)p + ((ivec)rounded << 23)));
}

/* C[16 NR] += a[K] B[K, :] with KU interleaved partial sums; a and the rows of B may run backwards. */
INLINE void add_row_part(const float *a, long step, const float *B, long ldb, float *C, long K, int NR, int KU) {
    vec c[24];
    for (int u = 0; u < KU; u++)
        for (int j = 0; j < NR; j++) c[u * NR + j] = u ? (vec){} : AT(C + 16 * j);
    long s = 0;
    for (; s + KU <= K; s += KU)
        for (int u = 0; u < KU; u++) {
            vec x = splat(a[(s + u) * step]);
            for (int j = 0; j < NR; j++) c[u * NR + j] += x * AT(B + (s + u) * ldb + 16 * j);
        }
    for (; s < K; s++) {
        vec x = splat(a[s * step]);
        for (int j = 0; j < NR; j++) c[j] += x * AT(B + s * ldb + 16 * j);
    }
    for (int j = 0; j < NR; j++) {
        vec total = c[j];
        for (int u = 1; u < KU; u++) total += c[u * NR + j];
        AT(C + 16 * j) = total;
    }
}

/* C[16 width] += a[K] B[K, :]; direction -1 takes the rows of B last to first, so that half of B stays in L1. */
INLINE void add_row(const float *a, long K, const float *B, long ldb, float *C, long width, int direction) {
    long step = direction, j = 0;
    if (direction < 0) a += K - 1, B += (K - 1) * ldb, ldb = -ldb;
    if (width % 24 == 0) {
        for (; j < width; j += 24) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 24, 1);
        return;
    }
    for (; j + 16 <= width; j += 16) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 16, 1);
    if (j + 12 <= width) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 12, 1), j += 12;
    if (j + 8 <= width) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 8, 1), j += 8;
    if (j + 4 <= width) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 4, 2), j += 4;
    if (j + 2 <= width) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 2, 4), j += 2;
    if (j < width) add_row_part(a, step, B + 16 * j, ldb, C + 16 * j, K, 1, 8);
}

INLINE void tile(const float *A, long step, long row, const float *B, long ldb, float *C, long ldc, long K, int MR,
                 int NR) {
    vec c[16];
    for (int i = 0; i < MR * NR; i++) c[i] = (vec){};
    for (long s = 0; s < K; s++) {
        vec b[2];
        for (int j = 0; j < NR; j++) b[j] = AT(B + s * ldb + 16 * j);
        for (int i = 0; i < MR; i++) {
            vec x = splat(A[s * step + i * row]);
            for (int j = 0; j < NR; j++) c[i * NR + j] += x * b[j];
        }
    }
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NR; j++) AT(C + i * ldc + 16 * j) = c[i * NR + j];
}

/* C[M, 16 width] = sum over s of A[s step + i row] B[s, :]: A B with step = 1, its transpose times B with row = 1. */
INLINE void product(const float *A, long step, long row, long M, const float *B, long ldb, long width, float *C,
                    long ldc, long K) {
    for (long j = 0; j < width; j += width - j >= 2 ? 2 : 1) {
        long i = 0;
        if (width - j >= 2) {
            for (; i + 8 <= M; i += 8) tile(A + i * row, step, row, B + 16 * j, ldb, C + i * ldc + 16 * j, ldc, K, 8, 2);
            for (; i < M; i++) tile(A + i * row, step, row, B + 16 * j, ldb, C + i * ldc + 16 * j, ldc, K, 1, 2);
        } else {
            for (; i + 8 <= M; i += 8) tile(A + i * row, step, row, B + 16 * j, ldb, C + i * ldc + 16 * j, ldc, K, 8, 1);
            for (; i < M; i++) tile(A + i * row, step, row, B + 16 * j, ldb, C + i * ldc + 16 * j, ldc, K, 1, 1);
        }
    }
}

/* The window forward from S[0], with X in place. */
__attribute__((noinline)) void forward(const Learner *l) {
    long I = l->inputs, H = H_OF(l), G = 3 * H, la = LA(H), lx = LX(I);
    const float *W = l->weights, *U = W + (1 + I) * G, *c = U + H * G;
    if (l->steps == 1) {
        memset(l->activations, 0, 4 * G);
        add_row(l->X, 1 + I, W, G, l->activations, G / 16, 1);
    } else {
        product(l->X, 1, lx, l->steps, W, G, G / 16, l->activations, la, 1 + I);
    }
    for (long s = 0; s < l->steps; s++) {
        float *a = l->activations + s * la, *h = l->S + s * H;
        for (long j = 0; j < 2 * H; j += 16) AT(a + H + j) += AT(c + j);
        for (long j = 0; j < H; j += 16) AT(a + 3 * H + j) = AT(c + 2 * H + j);
        add_row(h, H, U, G, a + H, G / 16, s & 1 ? -1 : 1);
        for (long j = 0; j < H; j += 16) {
            vec r = sigmoid16(AT(a + H + j)), z = sigmoid16(AT(a + 2 * H + j));
            vec n = tanh16(r * AT(a + 3 * H + j) + AT(a + j));
            AT(a + j) = n, AT(a + H + j) = r, AT(a + 2 * H + j) = z;
            AT(h + H + j) = z * (AT(h + j) - n) + n;
        }
    }
}

/* All gradients, from DY and a window that was run forward; U_transposed is up to date. */
__attribute__((noinline)) void backward(const Learner *l) {
    long I = l->inputs, H = H_OF(l), G = 3 * H, la = LA(H), K = l->steps;
    const float *V = l->weights + (1 + I) * G + H * G + G;
    float *gU = l->gradient + (1 + I) * G, *gc = gU + H * G, *gV = gc + G, *dh = l->dh;
    memset(dh, 0, 4 * H);
    for (long s = K - 1; s >= 0; s--) {
        const float *a = l->activations + s * la, *h = l->S + s * H;
        float *d = l->D + s * la;
        if (s >= l->first)
            for (long j = 0; j < H; j += 16) AT(dh + j) += l->DY[s] * AT(V + j);
        for (long j = 0; j < H; j += 16) {
            vec v = AT(dh + j), n = AT(a + j), r = AT(a + H + j), z = AT(a + 2 * H + j);
            vec rest = 1.f - z, through = v * z, dn = v * rest * (1.f - n * n), dnr = dn * r;
            AT(d + j) = dn;
            AT(d + H + j) = dnr * AT(a + 3 * H + j) * (1.f - r);
            AT(d + 2 * H + j) = through * (AT(h + j) - n) * rest;
            AT(d + 3 * H + j) = dnr;
            AT(dh + j) = through;
        }
        add_row(d + H, G, l->U_transposed, H, dh, H / 16, s & 1 ? -1 : 1);
    }
    product(l->X, LX(I), 1, 1 + I, l->D, la, G / 16, l->gradient, G, K);
    product(l->S, H, 1, H, l->D + H, la, G / 16, gU, G, K);
    memcpy(gc, l->gradient + H, 8 * H);
    for (long j = 0; j < H; j += 16) {
        vec even = {}, odd = {}, head = {};
        for (long s = 0; s + 1 < K; s += 2) even += AT(l->D + s * la + 3 * H + j), odd += AT(l->D + (s + 1) * la + 3 * H + j);
        if (K & 1) even += AT(l->D + (K - 1) * la + 3 * H + j);
        for (long s = l->first; s < K; s++) head += l->DY[s] * AT(l->S + (s + 1) * H + j);
        AT(gc + 2 * H + j) = even + odd, AT(gV + j) = head;
    }
    float total = 0;
    for (long s = l->first; s < K; s++) total += l->DY[s];
    gV[H] = total;
}

INLINE void transpose(const float *A, long rows, long columns, float *B) {
    for (long i = 0; i < rows; i += 16)
        for (long j = 0; j < columns; j++) {
            vec column;
            for (int k = 0; k < 16; k++) column[k] = A[(i + k) * columns + j];
            AT(B + j * rows + i) = column;
        }
}

/* Decaying numbers become 0 before they become denormals, which are slow. */
INLINE float flushed(float x, float smallest) { return fabsf(x) < smallest ? 0.f : x; }

/* One whole update: window forward, loss, backward, clip, Adam. */
__attribute__((noinline)) void update(Learner *l) {
    long I = l->inputs, H = H_OF(l), G = 3 * H, n = (1 + I) * G + H * G + G + H + 16;
    const float *V = l->weights + n - H - 16;
    transpose(l->weights + (1 + I) * G, H, G, l->U_transposed);
    forward(l);
    for (long s = l->first; s < l->steps; s++) {
        vec acc = {};
        for (long j = 0; j < H; j += 16) acc += AT(V + j) * AT(l->S + (s + 1) * H + j);
        l->DY[s] = 2.f * (sum(acc) + V[H] - l->labels[s]) / (float)(l->steps - l->first);
    }
    backward(l);
    vec squares = {};
    for (long i = 0; i < n; i += 16) squares += AT(l->gradient + i) * AT(l->gradient + i);
    float scale = fminf(1.f, l->clip / (sqrtf(sum(squares)) + 1e-6f));
    l->power1 *= 0.9f, l->power2 *= 0.999f;
    float step = l->lr / (1.f - l->power1), spread = 1.f / (1.f - l->power2);
    float *restrict w = l->weights, *restrict m = l->m, *restrict v = l->v, *restrict gradient = l->gradient;
    for (long i = 0; i < n; i++) { /* gcc makes vectors of this by itself */
        float g = flushed(gradient[i] * scale, 1e-18f);
        m[i] = flushed(0.9f * m[i] + 0.1f * g, 1e-30f);
        v[i] = flushed(0.999f * v[i] + 0.001f * (g * g), 1e-30f);
        w[i] -= step * m[i] / (sqrtf(v[i] * spread) + 1e-8f);
    }
}

/* `n` times over, so that the caller's own call costs nothing. */
void forwards(Learner *l, long n) { while (n-- > 0) forward(l); }
void backwards(Learner *l, long n) { while (n-- > 0) backward(l); }
void updates(Learner *l, long n) { while (n-- > 0) update(l); }
