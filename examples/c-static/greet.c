#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("hello, %s (I am user %d and process %d)\n", argv[i], (int)getuid(), (int)getpid());
    return argc > 1 ? 0 : 2;
}
