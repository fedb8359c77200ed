export interface Shape {
  a: number;
}
export type Mode = "fast" | "slow";
