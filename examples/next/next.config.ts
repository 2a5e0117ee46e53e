import type { NextConfig } from "next";

const isDevelopment = process.env.NODE_ENV === "development";
const policy = [
  "default-src 'self'",
  `script-src 'self' 'unsafe-inline'${isDevelopment ? " 'unsafe-eval'" : ""}`, // Next.js puts its data inline
  "style-src 'self' 'unsafe-inline'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "object-src 'none'",
].join("; ");

export default {
  experimental: { turbopackFileSystemCacheForBuild: !process.env.CI }, // CI starts anew each time
  poweredByHeader: false,
  turbopack: { root: import.meta.dirname },
  headers: async () => [
    {
      source: "/:path*",
      headers: [
        { key: "Content-Security-Policy", value: policy },
        { key: "Referrer-Policy", value: "same-origin" },
        { key: "X-Content-Type-Options", value: "nosniff" },
      ],
    },
  ],
} satisfies NextConfig;
