/* tests/fake/sanitized.h - is this a build whose every step is looked at, and takes several times as long?
 * Tests that walk through thousands of cases then take some of them: the others run in the release build. */
#ifndef ROOST_TESTS_FAKE_SANITIZED_H
#define ROOST_TESTS_FAKE_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* gcc's */
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#endif
