/* Count lines, words and bytes of a file, or of standard input. */
#include <ctype.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    FILE *file = argc > 1 ? fopen(argv[1], "r") : stdin;
    if (!file) {
        perror(argv[1]);
        return 1;
    }
    long lines = 0, words = 0, bytes = 0;
    int in_word = 0;
    for (int c; (c = getc(file)) != EOF; bytes++) {
        lines += c == '\n';
        words += !in_word && !isspace(c);
        in_word = !isspace(c);
    }
    printf("%ld lines, %ld words, %ld bytes\n", lines, words, bytes);
    return fclose(file) != 0;
}
