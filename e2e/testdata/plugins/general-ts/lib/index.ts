export enum Colour {
  Red = "red",
  Blue = "blue",
}

export abstract class Base {
  constructor(protected readonly x: number) {}
  abstract go(): number;
}
